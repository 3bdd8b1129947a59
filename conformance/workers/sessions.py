"""Sessions of pytest within this process: a run again and again, or a part of a run that continues."""

import contextlib
import io
import shutil
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.errors import HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.plugin.settings import SETTINGS
from conformance.plugin.state import CHECK, EXIT_NOTHING_DECIDED, LEADER, SESSION
from conformance.report import terminal
from conformance.report.terminal import Screen
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util import paths

COMPLETED = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
"""Exit statuses of sessions that ran to their end, the worst first; after any other one, another session is useless."""


class _RecordsPlugin:
    """Keeps the records of a session."""

    records: Sequence[Record] | None = None

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Keep them, if the session prepared a run."""
        state = config.stash.get(SESSION, None)
        if state and state.run:
            self.records = state.run.recorder.records


Session = Callable[[Path | None], tuple[int, Sequence[Record] | None]]
"""Runs once, with records in a folder or in the run's own; returns the exit status and the records, or None in their
place if no run was prepared."""


@dataclass(frozen=True)
class Repeated:
    """The end of several runs.

    Attributes:
        status: the worst exit status.
        runs: the records of each run.
        folder: of all their records; None if there are none.
    """

    status: int
    runs: Sequence[Sequence[Record]]
    folder: Path | None


def run_suites(arguments: Sequence[str], folder: Path | None = None) -> tuple[int, Sequence[Record] | None]:
    """Run the suites in this process with pytest's options; ``folder`` is for the records, instead of the run's own."""
    plugin = _RecordsPlugin()
    status = pytest.main([*paths.TESTS, *arguments, *results_option(folder)], plugins=[plugin])
    return int(status), plugin.records


def results_option(folder: Path | None) -> tuple[str, ...]:
    """Return pytest's option for a folder of records."""
    return () if folder is None else (f"{SETTINGS['results'].option}={folder}",)


def repeat(session: Session, times: int, folder: Path | None = None) -> Repeated:
    """Run a session several times, each time as a run of its own, with new containers and new guests.

    Args:
        session: to run.
        times: number of runs; fewer after one that is interrupted or cannot run.
        folder: for all records, instead of the first run's own.
    """
    runs: list[Sequence[Record]] = []
    statuses: list[int] = []
    for _ in range(times):
        status, records = session(folder)
        if records is not None:
            runs.append(records)
        if records:
            folder = folder or paths.run_folder(records[0].run)
        statuses.append(status)
        if status not in COMPLETED:
            break
    return Repeated(worst(statuses), runs, folder if any(runs) else None)


def worst(statuses: Collection[int]) -> int:
    """Return the worst of some exit statuses; one of a session that could not run is worse than any other."""
    incomplete = [status for status in statuses if status not in COMPLETED]
    return incomplete[0] if incomplete else int(min(statuses, key=lambda one: COMPLETED.index(pytest.ExitCode(one))))


def summary_of_all(
    contract: Contract,
    title: str,
    records: Sequence[Record],
    results: Path,
    *,
    color: bool,
    seconds: float | None = None,
    reached: tuple[int, int] | None = None,
    selected: Collection[tuple[str, str]] = (),
    announced: Collection[str] = (),
) -> str:
    """Return one summary of several sessions' records; cells on which they disagree are flaky, with counts.

    Args:
        contract: for titles, causes and order.
        title: the first line.
        records: of each file in the order of its lines.
        results: the folder of the files.
        color: whether to use terminal colours.
        seconds: as for :func:`terminal.summary`.
        reached: as for :func:`terminal.summary`.
        selected: as for :func:`terminal.summary`.
        announced: as for :func:`terminal.summary`.
    """
    screen = Screen(shutil.get_terminal_size().columns, color)
    text = terminal.summary(
        contract,
        records,
        results,
        screen=screen,
        seconds=seconds,
        reached=reached,
        selected=selected,
        announced=announced,
    )
    return f"{title}\n{text}"


Wanted = Callable[[Check, pytest.Item], bool]
"""Returns whether a test runs."""

Announce = Callable[[Check, int, int], None]
"""Receives a check that begins, its number, and the number of all checks."""

Place = Callable[[Check], float]
"""Returns the place of a test in the order: tests run from the lowest place to the highest one."""


def run_within(
    run: Run,
    arguments: Sequence[str],
    wanted: Wanted = lambda _check, _item: True,
    announce: Announce = lambda _check, _number, _all: None,
    place: Place | None = None,
) -> list[Record]:
    """Run a session as a part of a run that continues after it; pytest's output is dropped.

    Args:
        run: receives the session's records.
        arguments: pytest's options and places.
        wanted: selects among the tests.
        announce: is called before each check.
        place: orders the tests; by default they have the order of a whole run.

    Returns:
        The session's records.

    Raises:
        HarnessError: no test ran; with pytest's output.
        KeyboardInterrupt: the session was interrupted.
    """
    before = len(run.recorder.records)
    output = io.StringIO()
    plugin = _SharedRunPlugin(run, wanted, announce, place)
    with contextlib.redirect_stdout(output):
        status = pytest.main([*arguments, "-qq"], plugins=[plugin])
    if plugin.interrupted:
        raise KeyboardInterrupt
    records = run.recorder.records[before:]
    if not records or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, EXIT_NOTHING_DECIDED):
        raise HarnessError(f"pytest {' '.join(arguments)} ended with status {status}: {output.getvalue()[-2000:]}")
    return records


class _SharedRunPlugin:
    """Lets a session record into a run that continues, and deselects the tests that are not wanted."""

    def __init__(self, run: Run, wanted: Wanted, announce: Announce, place: Place | None) -> None:
        self._run = run
        self._wanted = wanted
        self._announce = announce
        self._place = place
        self.interrupted = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[LEADER] = self._run

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        yield  # the plugin attaches the checks and orders them
        items[:] = [item for item in items if CHECK not in item.stash or self._wanted(item.stash[CHECK], item)]
        if place := self._place:
            items.sort(key=lambda item: place(item.stash[CHECK]) if CHECK in item.stash else 0.0)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        checks = [one for one in item.session.items if CHECK in one.stash]
        if item in checks:
            self._announce(item.stash[CHECK], checks.index(item) + 1, len(checks))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest's own status is the same for tests that cannot be collected.
        self.interrupted = excinfo.errisinstance(KeyboardInterrupt)
