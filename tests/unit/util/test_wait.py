import io
import threading

import pytest

from conformance.errors import HarnessError, ImageLate
from conformance.model.verdict import blames_image
from conformance.util.progress import Progress
from conformance.util.wait import DeadlineExpired, for_image, wait_for, within


def test_the_answer_is_returned() -> None:
    answers = iter([None, False, 0])
    assert wait_for("an answer", lambda: next(answers), seconds=5, interval=0) == 0


def test_expiry_says_what_was_waited_for_and_what_was_seen() -> None:
    with pytest.raises(DeadlineExpired, match=r"waited 0 s for a lease; instead: two ARP requests"):
        wait_for("a lease", lambda: None, seconds=0, seen=lambda: "two ARP requests")


def test_who_was_waited_for_is_who_is_blamed() -> None:
    with pytest.raises(HarnessError, match="what to do") as harness:
        wait_for("the lab", lambda: None, seconds=0)
    assert not blames_image(harness.value)
    with pytest.raises(ImageLate, match=r"^waited 0 s for libvirt; instead: nothing was seen$") as late, for_image():
        wait_for("libvirt", lambda: None, seconds=0)
    assert blames_image(late.value)


def test_an_exception_ends_the_wait_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for("nothing", lambda: 1 // 0, seconds=60)


@pytest.mark.parametrize(("takes", "pause"), [(0, 0.1), (0.4, 0.4), (30, 1)])
def test_a_question_that_takes_long_is_not_asked_all_the_time(
    monkeypatch: pytest.MonkeyPatch, takes: float, pause: float
) -> None:
    now = 0.0
    pauses: list[float] = []

    def ask() -> bool:
        nonlocal now
        now += takes
        return len(pauses) == 2

    monkeypatch.setattr("conformance.util.wait.time.monotonic", lambda: now)
    monkeypatch.setattr("conformance.util.wait.time.sleep", pauses.append)

    assert wait_for("an answer", ask, seconds=100)
    assert pauses == pytest.approx([pause, pause])


def test_a_call_that_blocks_is_given_up() -> None:
    release = threading.Event()
    with pytest.raises(DeadlineExpired, match=r"waited 0\.05 s for an answer"):
        within("an answer", release.wait, seconds=0.05)
    release.set()


def test_a_call_hands_on_its_answer_and_its_error() -> None:
    assert within("seven", lambda: 7, seconds=5) == 7
    with pytest.raises(ZeroDivisionError):
        within("nothing", lambda: 1 // 0, seconds=5)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress("one\n two")
    progress("x" * 500)
    progress.clear()
    first, second = stream.getvalue().splitlines()
    assert first == "… one two"
    assert len(second) < 120


def test_progress_renews_its_line_on_a_terminal_and_takes_it_away() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress("one")
    progress("two")
    progress.clear()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_quiet_progress_says_nothing() -> None:
    stream = io.StringIO()
    Progress(stream, quiet=True)("one")
    assert stream.getvalue() == ""
