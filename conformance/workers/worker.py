"""A part of a run in a process of its own: ``python -m conformance.workers.worker RUN MODE FILE WORDS``.

RUN is what records call the whole run, MODE is what this part asks, FILE is where it says what it is waiting for, and
WORDS are pytest's.
"""

import sys
from pathlib import Path

import pytest

from conformance.plugin.state import LEADER, WorkerContext
from conformance.util import signals


class WorkerPlugin:
    """Lets the conformance plugin know of it."""

    def __init__(self, assignment: WorkerContext) -> None:
        self._assignment = assignment

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Say so before that plugin looks."""
        config.stash[LEADER] = self._assignment


def main(run: str, mode: str, file: str, *words: str) -> int:
    """Ask one mode, and return pytest's exit status; SIGTERM ends it as ctrl-C would."""
    with Path(file).open("w", encoding="utf-8") as progress, signals.as_ctrl_c():
        return int(pytest.main([*words], plugins=[WorkerPlugin(WorkerContext(run, mode, progress))]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
