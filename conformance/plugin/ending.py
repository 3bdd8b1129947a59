"""The end of a session before its last test: a message of the reason, in place of pytest's lines with a traceback."""

import pytest

from conformance.plugin.state import SESSION
from conformance.util.signals import Terminated


class PlainEnd:
    """Reports ctrl-C and an error that ends the session; a plugin of pytest, without effect beside ``--full-trace``."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Replace the terminal reporter's own lines, which come after the summary."""
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        message = self._message(excinfo.value)
        if reporter is None or message is None or self._config.getoption("fulltrace"):
            return

        def report() -> None:
            if message:
                reporter.ensure_newline()
                reporter.write_line(message, red=True)

        # pytest has no hook for these lines.
        setattr(reporter, "_report_keyboardinterrupt", report)  # noqa: B010

    def _message(self, ended_by: BaseException) -> str | None:
        """Return the message; empty for a worker, whose leader reports it; None for a reason that pytest words best."""
        if isinstance(ended_by, pytest.exit.Exception):
            return ended_by.msg
        if type(ended_by) in (KeyboardInterrupt, Terminated):
            return "" if self._config.stash[SESSION].worker else "interrupted"
        return None
