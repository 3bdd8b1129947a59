"""The selection of pytest's options, as JSON: ``python -m conformance.workers.selection -m kvm --mode privileged``.

It is a process of its own, since a session of pytest leaves its modules and settings behind.
"""

import contextlib
import io
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from conformance.errors import HarnessError
from conformance.plugin.state import CHECK, OPTIONS
from conformance.util import paths

COLLECT_SECONDS = 300
"""Deadline for a collection; on an idle machine it takes two seconds."""

Cells = frozenset[tuple[str, str]]
"""Pairs of a feature's id and a mode's."""


class Selection(BaseModel):
    """The cells that a session with some options would test, and the options that concern more than one session.

    Attributes:
        cells: to test.
        modes: the contract's ids of the chosen ones, in order; cells have other ids with ``without``.
        checks: the number of checks in each mode.
        verbose: pytest's verbosity.
        modes_by_host: whether each host tests only the recommended one of these modes.
        without: ids of what is removed from the modes.
        contract: file of the contract.
        required: names of what has to be decided.
        image: to test; None for the project's own, which is built.
        host_name: of the engine's host in the records; None for one that is made from its engine.
        results: folder of the records; None for the run's own.
        junit: file of JUnit's report, if one is wanted.
        pci_devices: addresses of PCI devices for guests.
        pci_modes: modes with a selected test that uses such a device.
        max_failures: number of failures that ends a session; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cells: Cells
    modes: tuple[str, ...]
    checks: dict[str, int]
    verbose: int
    modes_by_host: bool
    without: tuple[str, ...]
    contract: Path
    required: tuple[str, ...]
    image: str | None
    host_name: str | None
    results: Path | None
    junit: Path | None
    pci_devices: tuple[str, ...]
    pci_modes: frozenset[str]
    max_failures: int


@dataclass(frozen=True)
class Collected:
    """The end of a collection.

    Attributes:
        status: pytest's exit status.
        output: pytest's; after a usage error only the message.
        selection: None if pytest ended before the selection, as for a bad option.
    """

    status: int
    output: str
    selection: Selection | None


def collect(arguments: Sequence[str]) -> Collected:
    """Collect the suites' tests with pytest's options.

    Raises:
        HarnessError: pytest does not end in time.
    """
    command = [sys.executable, "-m", "conformance.workers.selection", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=paths.PROJECT, timeout=COLLECT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"pytest did not collect the tests of {' '.join(arguments)}: still running after {COLLECT_SECONDS} s",
            "run it again when the machine is less busy",
        ) from error
    selection = Selection.model_validate_json(done.stdout) if done.stdout else None
    return Collected(done.returncode, done.stderr, selection)


def collect_cells(arguments: Sequence[str]) -> Cells:
    """Return the cells that pytest's options select.

    Raises:
        HarnessError: pytest refuses the options, or they select nothing; with pytest's own message.
    """
    collected = collect(arguments)
    if collected.status != 0 or collected.selection is None:
        lines = (usage_error(collected.output) or "they select no test").splitlines()
        raise HarnessError(f"pytest refuses the options {' '.join(arguments)}: {lines[0]}", "correct the options")
    return collected.selection.cells


def usage_error(output: str) -> str:
    r"""Return the message of pytest's output after a usage error, without the frame of its argument parser.

    >>> usage_error("ERROR: usage: pytest.main() [options]\npytest.main(): error: bad value\n  inifile: /x\n")
    'bad value'
    """
    text = output.strip().removeprefix("ERROR: ")
    parsed = re.search(r"^\S*: error: (.*?)(?:\n *inifile: .*)?\Z", text, re.MULTILINE | re.DOTALL)
    return (parsed[1] if parsed else text).strip()


class _Collector:
    selection: Selection | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the selection."""
        checks = {item: item.stash[CHECK] for item in session.items if CHECK in item.stash}
        options = session.config.stash[OPTIONS]
        self.selection = Selection(
            cells=frozenset((check.feature.id, check.mode) for check in checks.values()),
            modes=options.mode_ids,
            checks=Counter(check.mode for check in checks.values()),
            verbose=session.config.getoption("verbose") + 1,  # this session has -q
            modes_by_host=options.modes_by_host,
            without=options.without,
            contract=options.contract_file,
            required=options.required,
            image=options.image,
            host_name=options.host_name,
            results=options.results,
            junit=session.config.getoption("xmlpath"),
            pci_devices=options.pci_devices,
            pci_modes=frozenset(check.mode for item, check in checks.items() if "pci_pool" in _fixtures(item)),
            max_failures=session.config.getoption("maxfail") or 0,
        )


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def main() -> int:
    """Print the selection of the options."""
    collector = _Collector()
    listed = io.StringIO()
    with contextlib.redirect_stdout(listed):
        status = int(pytest.main([*paths.TESTS, *sys.argv[1:], "--collect-only", "-q"], plugins=[collector]))
    if status != pytest.ExitCode.USAGE_ERROR:  # its message is on stderr, and the tests' names would hide it
        sys.stderr.write(listed.getvalue())
    if collector.selection:
        print(collector.selection.model_dump_json())  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
