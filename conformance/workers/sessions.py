"""Sessions of pytest within this process: a run again and again, or a part of a run that continues."""

import contextlib
import io
from collections.abc import Callable, Collection, Generator, Sequence

import pytest

from conformance.errors import HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.plugin.state import CHECK, EXIT_NOTHING_DECIDED, LEADER, SESSION
from conformance.report import terminal
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


Session = Callable[[], tuple[int, Sequence[Record] | None]]
"""Runs once; returns the exit status and the records, or None in their place if no run was prepared."""


def run_suites(arguments: Sequence[str]) -> tuple[int, Sequence[Record] | None]:
    """Run the suites in this process with pytest's options."""
    plugin = _RecordsPlugin()
    status = pytest.main([*paths.TESTS, *arguments], plugins=[plugin])
    return int(status), plugin.records


def repeat(session: Session, times: int) -> tuple[int, list[Sequence[Record]]]:
    """Run a session several times, each time as a run of its own, with new containers and new guests.

    Args:
        session: to run.
        times: number of runs; fewer after one that is interrupted or cannot run.

    Returns:
        The worst exit status, and the records of each run.
    """
    runs = []
    statuses: list[int] = []
    for _ in range(times):
        status, records = session()
        if records is not None:
            runs.append(records)
        statuses.append(status)
        if status not in COMPLETED:
            break
    return worst(statuses), runs


def worst(statuses: Collection[int]) -> int:
    """Return the worst of some exit statuses; one of a session that could not run is worse than any other."""
    incomplete = [status for status in statuses if status not in COMPLETED]
    return incomplete[0] if incomplete else int(min(statuses, key=lambda one: COMPLETED.index(pytest.ExitCode(one))))


def table_of_all(contract: Contract, title: str, records: Sequence[Record], *, color: bool) -> str:
    """Return one table of several sessions' records; cells on which they disagree are flaky, with counts."""
    return "\n".join([title, *terminal.render(contract, records, color=color)])


Wanted = Callable[[Check, pytest.Item], bool]
"""Returns whether a test runs."""

Place = Callable[[Check], float]
"""Returns the place of a test in the order: tests run from the lowest place to the highest one."""


def run_within(
    run: Run,
    arguments: Sequence[str],
    wanted: Wanted = lambda _check, _item: True,
    place: Place | None = None,
) -> list[Record]:
    """Run a session as a part of a run that continues after it; pytest's output is dropped.

    Args:
        run: receives the session's records.
        arguments: pytest's options and places.
        wanted: selects among the tests.
        place: orders the tests; by default they have the order of a whole run.

    Returns:
        The session's records.

    Raises:
        HarnessError: no test ran; with pytest's output.
        KeyboardInterrupt: the session was interrupted.
    """
    before = len(run.recorder.records)
    output = io.StringIO()
    plugin = _SharedRunPlugin(run, wanted, place)
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

    def __init__(self, run: Run, wanted: Wanted, place: Place | None) -> None:
        self._run = run
        self._wanted = wanted
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

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest's own status is the same for tests that cannot be collected.
        self.interrupted = excinfo.errisinstance(KeyboardInterrupt)
