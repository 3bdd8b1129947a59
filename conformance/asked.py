"""Which questions pytest's options select, as JSON: ``python -m conformance.asked -m kvm --mode privileged``.

In a process of its own: a session of pytest leaves its modules and settings behind.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence

import pytest

from conformance import paths
from conformance.errors import HarnessError
from conformance.plugin import QUESTION

SECONDS = 300
"""For a session that only looks; on an idle machine it takes two."""

Asked = frozenset[tuple[str, str]]
"""Questions: a feature's id and a mode's."""


class _Collector:
    questions: Iterable[tuple[str, str]] = ()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what was selected."""
        found = [item.stash[QUESTION] for item in session.items if QUESTION in item.stash]
        self.questions = {(question.feature.id, question.mode) for question in found}


def by(words: Sequence[str]) -> Asked:
    """Return what a session with these options asks.

    Raises:
        HarnessError: pytest does not take them; with its own words.
    """
    command = [sys.executable, "-m", "conformance.asked", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.PROJECT, timeout=SECONDS, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or "it selects nothing").splitlines()
        raise HarnessError(f"pytest does not take {' '.join(words)}: {said[-1]}")
    return frozenset((feature, mode) for feature, mode in json.loads(done.stdout))


def main() -> int:
    """Print what the options select."""
    collector = _Collector()
    with contextlib.redirect_stdout(sys.stderr):
        status = int(pytest.main(["suites", *sys.argv[1:], "--collect-only", "-q"], plugins=[collector]))
    print(json.dumps(sorted(collector.questions)))  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
