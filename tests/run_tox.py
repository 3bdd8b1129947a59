"""Run tox with the exit statuses of docs/testing.md: its own do not tell a bad option from an interruption."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

import pytest
from tox import run
from tox.config.cli.parse import get_options
from tox.report import HandledError, ToxHandler

from conformance.plugin.state import EXIT_CANNOT_RUN, EXIT_NOTHING_DECIDED

PASSED_ON = (0, int(pytest.ExitCode.USAGE_ERROR), EXIT_NOTHING_DECIDED, EXIT_CANNOT_RUN)
"""Statuses of a single environment's command that mean the same for the whole."""


def main(words: Sequence[str]) -> int:
    """Run tox; return the exit status."""
    try:
        get_options(*words)
    except SystemExit as ended:  # argparse printed its help or an error
        return int(pytest.ExitCode.USAGE_ERROR) if ended.code else 0
    interrupted = _noted(signal.SIGINT, signal.SIGTERM)
    try:
        with ToxHandler.patch_thread():
            status = run.main(words)
    except HandledError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return int(pytest.ExitCode.USAGE_ERROR)
    except KeyboardInterrupt:
        return int(pytest.ExitCode.INTERRUPTED)
    if interrupted:
        return int(pytest.ExitCode.INTERRUPTED)
    return status if status in PASSED_ON else int(pytest.ExitCode.TESTS_FAILED)


def _noted(*numbers: signal.Signals) -> list[int]:
    """Let signals interrupt tox, which then reports a failure; return the list of their numbers."""
    noted: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
    return noted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
