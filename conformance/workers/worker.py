"""Some modes of a run in a process of its own: ``python -m conformance.workers.worker RUN MODES FILE ARGUMENTS``.

RUN is the id of the whole run in the records, MODES the modes to test with commas between them, FILE receives the
progress, and ARGUMENTS are pytest's.
"""

import sys
from pathlib import Path

import pytest

from conformance.plugin.state import LEADER, WorkerContext
from conformance.util import signals


class WorkerPlugin:
    """Makes a session a worker of a run."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Set the context before the conformance plugin reads it."""
        config.stash[LEADER] = self._context


def main(run: str, modes: str, file: str, *arguments: str) -> int:
    """Test the modes, and return pytest's exit status; SIGTERM ends the session as ctrl-C does."""
    with Path(file).open("w", encoding="utf-8") as progress, signals.as_ctrl_c():
        return int(
            pytest.main([*arguments], plugins=[WorkerPlugin(WorkerContext(run, tuple(modes.split(",")), progress))])
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
