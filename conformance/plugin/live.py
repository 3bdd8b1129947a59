"""Live progress of a session: the present mode, its checks and the time left, in place of pytest's dots."""

import time
from collections import Counter
from collections.abc import Generator

import pytest

from conformance.model.record import Record
from conformance.plugin.state import CHECK, OPTIONS, SESSION
from conformance.report import terminal
from conformance.run import durations
from conformance.run.check import Check
from conformance.run.durations import Estimate, Key
from conformance.util.progress import Standing

DEFAULT_SUMMARY = frozenset("wfE")
"""pytest's own choice for its short summary (``-r``): warnings, failures and errors."""

WARNINGS = "w"
"""The part of it that the summary of this plugin does not have."""


class LiveProgress:
    """Shows how far a session is; a plugin of pytest.

    Without ``-v`` and ``-q`` it replaces pytest's files, dots and short summary, where each test is a check.
    """

    def __init__(self, session: pytest.Session) -> None:
        config = session.config
        self._state = config.stash[SESSION]
        self._checks = {item.nodeid: item.stash[CHECK] for item in session.items if CHECK in item.stash}
        self._totals = Counter(check.mode for check in self._checks.values())
        self._order = list(dict.fromkeys(check.mode for check in self._checks.values()))
        self._done: Counter[str] = Counter()
        self._since = time.monotonic()
        self._began: dict[str, float] = {}
        run = self._state.prepared_run
        known = durations.recorded(run.host_name, config.stash[OPTIONS].results)
        self._estimate = Estimate([_key(check) for check in self._checks.values()], known)
        self._alone = len(self._checks) == len(session.items)
        self._runs = False
        reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
        verbose = config.getoption("verbose")
        self._replaces = self._alone and (verbose == 0 or (self._state.worker is not None and verbose < 0))
        if self._replaces and reporter:
            reporter.showfspath = False
            if {*reporter.reportchars} <= DEFAULT_SUMMARY:
                reporter.reportchars = WARNINGS

    @property
    def reached(self) -> tuple[int, int]:
        """Return the number of checks that have ended, and of those that were to run."""
        return self._done.total(), len(self._checks)

    @property
    def selected(self) -> frozenset[tuple[str, str]]:
        """Return the cells that were to run, as feature and mode."""
        return frozenset((check.feature.id, check.mode) for check in self._checks.values())

    @property
    def seconds(self) -> float:
        """Return the seconds since all was prepared."""
        return time.monotonic() - self._since

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Begin a mode with its first check."""
        check = self._checks.get(nodeid)
        if check and check.mode not in self._began:
            self._began[check.mode] = time.monotonic()
            self._show(check.mode)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count a check; the last one of a mode ends it with a line that stays."""
        check = self._checks.get(nodeid)
        if check is None:
            return
        self._done[check.mode] += 1
        self._estimate.ended(_key(check), time.monotonic() - check.started)
        self._show(check.mode)
        if self._done[check.mode] == self._totals[check.mode] and self._replaces:
            ran = {(one.feature.id, one.check) for one in self._checks.values() if one.mode == check.mode}
            records = [
                one
                for one in self._state.prepared_run.recorder.records
                if one.mode == check.mode and (one.feature, one.check) in ran
            ]
            self._state.progress.line(terminal.mode_line(records, time.monotonic() - self._began[check.mode]))

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> Generator[None, tuple[str, str, object], tuple[str, str, object]]:
        """Count a check as pytest does, without its letter; pytest asks again for its summary."""
        status = yield
        shown = self._replaces and self._runs and report.nodeid in self._checks
        return (status[0], "", "") if shown else status

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Note when the checks run."""
        self._runs = True
        try:
            return (yield)
        finally:
            self._runs = False

    def judged(self, record: Record) -> None:
        """Show a bad verdict at once."""
        if record.verdict.bad and self._replaces:
            self._state.progress.line(terminal.failure_line(record))

    def _show(self, mode: str) -> None:
        if not self._replaces and not self._state.worker:
            return  # pytest's own column shows the progress
        self._state.progress.headline(
            Standing(
                mode=mode,
                number=self._order.index(mode) + 1,
                modes=len(self._order),
                done=self._done[mode],
                checks=self._totals[mode],
                left=self._estimate.left,
            )
        )


def _key(check: Check) -> Key:
    return Key(check.mode, check.feature.id, check.check)
