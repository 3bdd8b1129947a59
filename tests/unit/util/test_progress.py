"""Progress on a terminal, in a log, and for another process."""

import io
import time
from collections.abc import Callable

import pytest

from conformance.util import progress
from conformance.util.progress import CLEAR, LOG_SECONDS, Event, Progress, ProgressFile, Standing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


def standing(done: int, mode: str = "least") -> Standing:
    return Standing(mode, 4, 6, done, 97, 170.0)


def test_the_position_has_mode_checks_and_time_left() -> None:
    assert str(standing(61)) == "mode 4/6 least · 61/97 checks · about 3 min left"
    assert str(Standing("least", 1, 1, 0, 5)) == "mode 1/1 least · 0/5 checks"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59, "59 s"), (60, "1 min"), (200, "3 min"), (3599, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words


def test_a_terminal_has_one_line_that_renews_itself() -> None:
    stream = Terminal()
    shown = Progress(stream)
    shown.headline(standing(1))
    shown("least: starting the container")
    shown.line("least: 97 work")
    shown.clear()
    head = str(standing(1))
    assert stream.getvalue() == f"{CLEAR}{head}{CLEAR}{head} · starting the container{CLEAR}least: 97 work\n"


def test_the_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    Progress(stream)("looking " * 20)
    assert len(stream.getvalue().removeprefix(CLEAR)) < 40


def test_a_log_has_each_step_before_the_run_and_two_lines_a_minute_in_it(later: Callable[[float], None]) -> None:
    stream = io.StringIO()
    shown = Progress(stream)
    shown("building")
    for done in range(4):
        later(LOG_SECONDS / 2 - 1)
        shown.headline(standing(done))
        shown("least: a guest")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["… building", str(standing(0))]
    assert len(lines) == 3


def test_the_start_of_a_mode_is_a_line_of_the_log_at_once(later: Callable[[float], None]) -> None:
    stream = io.StringIO()
    shown = Progress(stream)
    shown.headline(standing(0))
    shown.headline(standing(1))
    shown.headline(standing(0, "privileged"))
    assert stream.getvalue().splitlines() == [str(standing(0)), str(standing(0, "privileged"))]


def test_a_quiet_one_shows_nothing() -> None:
    stream = Terminal()
    shown = Progress(stream, quiet=True)
    shown.headline(standing(1))
    shown("looking")
    shown.line("works")
    assert not stream.getvalue()


def test_another_process_reads_what_was_shown() -> None:
    stream = io.StringIO()
    shown = ProgressFile(stream)
    shown("looking\ninto it")
    shown.line('{"a line"}')
    shown.headline(standing(7))
    assert [progress.read(line) for line in stream.getvalue().splitlines()] == [
        Event(step="looking into it"),
        Event(line='{"a line"}'),
        Event(standing=standing(7)),
    ]
