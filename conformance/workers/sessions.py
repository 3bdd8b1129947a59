"""Sessions of pytest that others start: a run again and again, or parts of one run that goes on."""

import contextlib
import io
from collections.abc import Callable, Collection, Sequence

import pytest

from conformance.errors import HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.plugin.state import CHECK, LEADER, SESSION
from conformance.report import terminal
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util import paths

ASKED = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
"""How a session ends that could ask, the worst first; after any other there is no use in asking again."""


class _Recorded:
    """A plugin of pytest that keeps what its session recorded."""

    records: Sequence[Record] | None = None

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Keep it, if the session came to a run."""
        state = config.stash.get(SESSION, None)
        if state and state.run:
            self.records = state.run.recorder.records


Ask = Callable[[], tuple[int, Sequence[Record] | None]]
"""Asks once; returns an exit status and what was recorded, or none where it came to no run."""


def session(words: Sequence[str]) -> tuple[int, Sequence[Record] | None]:
    """Run the suites in this process with pytest's options."""
    recorded = _Recorded()
    status = pytest.main([*paths.TESTS, *words], plugins=[recorded])
    return int(status), recorded.records


def ask(once: Ask, times: int) -> tuple[int, list[Sequence[Record]]]:
    """Ask so often, each time as a run of its own: with new containers and new guests.

    Args:
        once: asks once.
        times: how often; fewer where a session is interrupted, or cannot ask.

    Returns:
        The exit status, which is the worst of the sessions', and what each run recorded.
    """
    runs = []
    statuses: list[int] = []
    for _ in range(times):
        status, records = once()
        if records is not None:
            runs.append(records)
        statuses.append(status)
        if status not in ASKED:
            break
    return worst(statuses), runs


def worst(statuses: Collection[int]) -> int:
    """Return the worst of some exit statuses: first one of who could not ask."""
    unasked = [status for status in statuses if status not in ASKED]
    return unasked[0] if unasked else int(min(statuses, key=lambda status: ASKED.index(pytest.ExitCode(status))))


def together(contract: Contract, title: str, records: Sequence[Record], *, color: bool) -> str:
    """Draw what records of several sessions say together; what answers differently is flaky, with counts."""
    return "\n".join([title, *terminal.render(contract, records, color=color)])


NOTHING_TO_ASK = 5
"""pytest's status of a session that had no test to run, or decided nothing."""

Wanted = Callable[[Check, pytest.Item], bool]
"""Says whether a test is to be asked."""


def within(run: Run, words: Sequence[str], wanted: Wanted = lambda _question, _item: True) -> list[Record]:
    """Ask in a session that is a part of a run, which goes on after it; nothing of the session is shown.

    Args:
        run: what the session is given, and its records are added to.
        words: pytest's options and places.
        wanted: what of that is asked.

    Returns:
        The session's records.

    Raises:
        HarnessError: it asked nothing; with pytest's own words.
        KeyboardInterrupt: somebody wants it to end.
    """
    before = len(run.recorder.records)
    shown = io.StringIO()
    given = _Given(run, wanted)
    with contextlib.redirect_stdout(shown):
        status = pytest.main([*words, "-qq"], plugins=[given])
    if given.interrupted:
        raise KeyboardInterrupt
    records = run.recorder.records[before:]
    if not records or status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, NOTHING_TO_ASK):
        raise HarnessError(f"pytest {' '.join(words)} ended with status {status}: {shown.getvalue()[-2000:]}")
    return records


class _Given:
    """Hands a run that goes on to a session that is a part of it, and leaves out what is not wanted."""

    def __init__(self, run: Run, wanted: Wanted) -> None:
        self._run = run
        self._wanted = wanted
        self.interrupted = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[LEADER] = self._run

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [one for one in items if CHECK not in one.stash or self._wanted(one.stash[CHECK], one)]

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        # pytest's own status is the same for tests that cannot be collected.
        self.interrupted = excinfo.errisinstance(KeyboardInterrupt)
