"""What pytest's options select, as JSON: ``python -m conformance.workers.selection -m kvm --mode privileged``.

In a process of its own: a session of pytest leaves its modules and settings behind.
"""

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from conformance.errors import HarnessError
from conformance.plugin.state import CHECK, OPTIONS
from conformance.util import paths

SECONDS = 300
"""For a session that only looks; on an idle machine it takes two."""

Asked = frozenset[tuple[str, str]]
"""Questions: a feature's id and a mode's."""


class Selection(BaseModel):
    """What a session with some options would ask, and what else they say that concerns more than one session.

    Attributes:
        questions: what it asks.
        modes: the chosen modes, in their order.
        without: what is taken away from them.
        contract: the claims.
        required: what has to be decided, by name.
        image: what is judged; none where ours is built.
        host_name: what records call the host; none where that is made from its engine.
        results: where records go.
        junit: the file for JUnit's report, if one is wanted.
        pci_devices: addresses of what guests may be given.
        giving: the modes in which a question takes such a device.
        failures: after so many the session ends; 0 where it never does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: Asked
    modes: tuple[str, ...]
    without: tuple[str, ...]
    contract: Path
    required: tuple[str, ...]
    image: str | None
    host_name: str | None
    results: Path
    junit: Path | None
    pci_devices: tuple[str, ...]
    giving: frozenset[str]
    failures: int


@dataclass(frozen=True)
class Looked:
    """How a session that only looked ended.

    Attributes:
        status: pytest's exit status.
        said: what it wrote.
        selection: none where it did not come so far.
    """

    status: int
    said: str
    selection: Selection | None


def look(words: Sequence[str]) -> Looked:
    """Return what a session with these options would ask.

    Raises:
        HarnessError: it does not say so in time.
    """
    command = [sys.executable, "-m", "conformance.workers.selection", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=paths.PROJECT, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"pytest does not say within {SECONDS} s what {' '.join(words)} selects", "is this machine overloaded?"
        ) from error
    selection = Selection.model_validate_json(done.stdout) if done.stdout else None
    return Looked(done.returncode, done.stderr, selection)


def by(words: Sequence[str]) -> Asked:
    """Return the questions of a session with these options.

    Raises:
        HarnessError: pytest does not take them; with its own words.
    """
    looked = look(words)
    if looked.status != 0 or looked.selection is None:
        said = (looked.said.strip() or "it selects nothing").splitlines()
        raise HarnessError(f"pytest does not take {' '.join(words)}: {said[-1]}")
    return looked.selection.questions


class _Collector:
    selection: Selection | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what was selected."""
        found = {item: item.stash[CHECK] for item in session.items if CHECK in item.stash}
        options = session.config.stash[OPTIONS]
        self.selection = Selection(
            questions=frozenset((question.feature.id, question.mode) for question in found.values()),
            modes=tuple(mode.id for mode in options.modes),
            without=options.without,
            contract=options.contract_file,
            required=options.required,
            image=options.image,
            host_name=options.host_name,
            results=options.results,
            junit=session.config.getoption("xmlpath"),
            pci_devices=options.pci_devices,
            giving=frozenset(question.mode for item, question in found.items() if "pci_pool" in _fixtures(item)),
            failures=session.config.getoption("maxfail") or 0,
        )


def _fixtures(item: pytest.Item) -> Sequence[str]:
    """Return the names of the fixtures that a test has."""
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def main() -> int:
    """Print what the options select."""
    collector = _Collector()
    with contextlib.redirect_stdout(sys.stderr):
        status = int(pytest.main([*paths.TESTS, *sys.argv[1:], "--collect-only", "-q"], plugins=[collector]))
    if collector.selection:
        print(collector.selection.model_dump_json())  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
