"""Run tox with the exit statuses of docs/testing.md: its own do not tell a bad option from an interruption."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
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
    try:
        with ToxHandler.patch_thread(), _noted(signal.SIGINT, signal.SIGTERM) as interrupted:
            status = run.main(words)
    except HandledError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return int(pytest.ExitCode.USAGE_ERROR)
    except KeyboardInterrupt:
        return int(pytest.ExitCode.INTERRUPTED)
    if interrupted:
        return int(pytest.ExitCode.INTERRUPTED)
    return status if status in PASSED_ON else int(pytest.ExitCode.TESTS_FAILED)


@contextlib.contextmanager
def _noted(*numbers: signal.Signals) -> Iterator[list[int]]:
    """Let signals interrupt tox, which then reports a failure; yield the list of their numbers."""
    noted: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
