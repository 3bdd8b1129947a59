"""One run of the matrix by many workers: each mode on each host, several side by side."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import environ
from pathlib import Path

import pytest

from conformance.engine import client, image, labels
from conformance.engine.api_errors import engine_errors
from conformance.guests.peer_network import peer_image
from conformance.media import probe as probe_media
from conformance.model import contract, mode, record, requirements
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.model.mode import Mode
from conformance.model.record import Record
from conformance.plugin.settings import SETTINGS
from conformance.run import preparation as runs
from conformance.util import logs, paths
from conformance.util.progress import Progress
from conformance.workers import sessions
from conformance.workers.pool import RunSettings, Task, WorkerHost, WorkerPool
from conformance.workers.selection import Selection


@dataclass(frozen=True)
class EngineTarget:
    """An engine to test on.

    Attributes:
        address: as DOCKER_HOST takes it.
        name: of its host in the records; None for one that is made from the engine.
        facts: further facts about its host for the records.
        options: pytest's, for this engine only.
    """

    address: str
    name: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return all of pytest's options for this engine."""
        name = () if self.name is None else (_host_name(self.name),)
        facts = (f"{SETTINGS['host-fact'].option}={key}={value}" for key, value in self.facts.items())
        return (*name, *facts, *self.options)


def _host_name(name: str) -> str:
    return f"{SETTINGS['host-name'].option}={name}"


@dataclass
class MatrixRun:
    """A run of the matrix with several modes side by side, on one host or several.

    Attributes:
        selection: cells to test.
        arguments: pytest's options that made the selection.
        at_once: number of workers on each host.
        progress: for the current step.
        echo: prints results.
    """

    selection: Selection
    arguments: tuple[str, ...]
    at_once: int
    progress: Progress
    echo: Callable[[str], object]
    _hosts: dict[WorkerHost, HostFingerprint] = field(default_factory=dict, init=False)

    @property
    def claims(self) -> Contract:
        """Return the contract; raises ContractError."""
        return contract.load(self.selection.contract)

    def prepare(self, targets: Sequence[EngineTarget]) -> None:
        """Build the images on each host once, before several workers would.

        Raises:
            HarnessError: an engine does not answer, or an image cannot be built.
        """
        for target in targets:
            engine = client.connect(target.address)
            if self.selection.image is None:
                image.ensure_image(engine, self.progress)
            with engine_errors():
                peer_image(engine.client, probe_media.ensure(self.progress))
            fingerprint = engine.fingerprint()
            name = self.selection.host_name or target.name or runs.named(fingerprint)
            # JUnit has no field for a host except the suite's name.
            suite = ("-o", f"junit_suite_name={name}") if len(targets) > 1 else ()
            host = WorkerHost(name, target.address, (*target.arguments, _host_name(name), *suite))
            self._hosts[host] = fingerprint

    def run(self, folder: Path | None = None) -> tuple[int, Sequence[Record]]:
        """Test everything once, show one table of all, and return the exit status and the records.

        Args:
            folder: for the records, instead of the run's own.
        """
        run = labels.new_run()
        logs.write_to(run)
        selected = {mode_ for _, mode_ in self.selection.cells}
        modes = [
            mode.from_contract(self.claims, one, self.selection.without)
            for one in self.selection.modes
            if one in selected
        ]
        status = WorkerPool(
            [
                Task(host, one.id, self._exclusive(host, one))
                for one in modes
                for host, fingerprint in self._hosts.items()
                if one.id in chosen_modes(self.selection, self.claims, fingerprint)
            ],
            RunSettings(
                run,
                (*(("--color=yes",) if colored() else ()), *self.arguments, *sessions.results_option(folder)),
                self.at_once,
                first_failure_ends=self.selection.max_failures == 1,
                junit=self.selection.junit,
            ),
            self.progress,
            self.echo,
        ).run()
        files = sorted((folder or paths.run_folder(run)).glob(record.file_name("*", run)))
        records = [one for file in files for one in record.read_file(file, Record)]
        if records:
            self.echo(sessions.table_of_all(self.claims, "all modes and hosts", records, color=colored()))
            self.echo("\n".join(f"records: {file}" for file in files))
        return self._with_requirements(status, records), records

    def _exclusive(self, host: WorkerHost, mode_: Mode) -> frozenset[str]:
        """Return the parts of a host that only one worker at a time can use."""
        named = self.selection.pci_devices or any(
            word.startswith(SETTINGS["pci-device"].options) for word in host.arguments
        )
        parts = {
            "the host's network": mode_.host_network,
            "the host's devices": named and (mode_.vfio or mode_.id in self.selection.pci_modes),
        }
        return frozenset(part for part, needed in parts.items() if needed)

    def _with_requirements(self, status: int, records: Sequence[Record]) -> int:
        """Report what ``--require`` names and no worker decided, and return the exit status after that."""
        if status == pytest.ExitCode.INTERRUPTED:
            return status
        lines = missing(self.selection, self.claims, self._hosts, records)
        for line in lines:
            self.echo(f"required, but missing: {line}")
        quiet = status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        return int(pytest.ExitCode.TESTS_FAILED) if lines and quiet else status


def chosen_modes(selection: Selection, claims: Contract, fingerprint: HostFingerprint) -> tuple[str, ...]:
    """Return the modes that a host tests."""
    recommended = claims.recommendation(", ".join(fingerprint.security))
    if not selection.modes_by_host or recommended is None:
        return selection.modes
    return tuple(one for one in selection.modes if one == recommended.mode)


def missing(
    selection: Selection, claims: Contract, hosts: Mapping[WorkerHost, HostFingerprint], records: Sequence[Record]
) -> list[str]:
    """Return one line for each name of ``--require`` that a host does not have or did not decide."""
    required = requirements.parse(claims, selection.required)
    return [
        f"{host.name}: {line}" if len(hosts) > 1 else line
        for host, fingerprint in hosts.items()
        for line in requirements.missing(
            required,
            claims,
            [one for one in records if one.host.name == host.name],
            asked=chosen_modes(selection, claims, fingerprint),
            fingerprint=fingerprint,
        )
    ]


def colored() -> bool:
    """Return whether the output is a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR")
