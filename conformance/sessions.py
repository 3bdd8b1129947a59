"""Asking again and again: how often the answer is the same."""

from collections.abc import Sequence

import pytest

from conformance import matrix, summary
from conformance.plugin import RUN
from conformance.run import Run

ASKED = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
"""How a session ends that could ask, the worst first; after any other there is no use in asking again."""


class _Runs:
    """A plugin of pytest that keeps what its sessions had."""

    def __init__(self) -> None:
        self.all: list[Run] = []

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Keep a session's run, if it came to one."""
        if run := config.stash.get(RUN, None):
            self.all.append(run)


def ask(words: Sequence[str], times: int) -> tuple[int, list[Run]]:
    """Run the suites so often, each time as a run of its own: with new containers and new guests.

    Args:
        words: pytest's options.
        times: how often; fewer where a session is interrupted, or cannot ask.

    Returns:
        The exit status, which is the worst of the sessions', and their runs.
    """
    runs = _Runs()
    statuses = set()
    for _ in range(times):
        status = pytest.main(["suites", *words], plugins=[runs])
        if status not in ASKED:
            return int(status), runs.all
        statuses.add(status)
    return int(min(statuses, key=ASKED.index)), runs.all


def together(runs: Sequence[Run], *, color: bool) -> str:
    """Draw what runs of one contract say together; what answers differently is flaky, with counts."""
    records = [one for run in runs for one in run.recorder.records]
    drawn = [summary.render(runs[0].contract, one, color=color) for one in matrix.build(runs[0].contract, records)]
    return "\n".join([f"all {len(runs)} runs together", *drawn])
