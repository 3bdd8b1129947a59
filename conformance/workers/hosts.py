"""One run of the matrix by many workers: each mode on each host, several side by side."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import environ
from pathlib import Path

import pytest

from conformance.engine import client, image, labels
from conformance.engine.api_errors import engine_errors
from conformance.engine.host_shell import HostShell
from conformance.guests.peer_network import peer_image
from conformance.host.pci import PciPool
from conformance.media import probe as probe_media
from conformance.model import contract, mode, record, requirements
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.model.mode import Mode
from conformance.model.record import Record
from conformance.plugin.settings import SETTINGS
from conformance.report import terminal
from conformance.run import durations, limits
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
    _unsupported: dict[WorkerHost, Mapping[str, str]] = field(default_factory=dict, init=False)

    @property
    def claims(self) -> Contract:
        """Return the contract; raises ContractError."""
        return contract.load(self.selection.contract)

    def prepare(self, targets: Sequence[EngineTarget]) -> None:
        """Build the images on each host once, before several workers would, and list the modes that cannot run.

        Raises:
            BadOption: an engine does not have the image to test.
            HarnessError: an engine does not answer, or an image cannot be built.
        """
        for target in targets:
            engine = client.connect(target.address)
            tag = self.selection.image
            found = image.require(engine, tag) if tag else image.ensure_image(engine, self.progress)
            with engine_errors():
                peer_image(engine.client, probe_media.ensure(self.progress))
            fingerprint = engine.fingerprint()
            name = self.selection.host_name or target.name or runs.named(fingerprint)
            # JUnit has no field for a host except the suite's name.
            suite = ("-o", f"junit_suite_name={name}") if len(targets) > 1 else ()
            host = WorkerHost(name, target.address, (*target.arguments, _host_name(name), *suite))
            self._hosts[host] = fingerprint
            self.progress(f"{name}: looking for modes that cannot run")
            shell = HostShell(engine.client, found.id, labels.new_run())
            pool = PciPool(shell, _pci_devices(host.arguments) or self.selection.pci_devices)
            self._unsupported[host] = limits.unsupported(
                self.claims, fingerprint, shell, pool, list(self._modes_of(host).values())
            )
        self.progress.clear()
        for host, reasons in self._unsupported.items():
            for line in terminal.not_run_here(reasons):
                self.progress.line(f"{host.name}: {line}" if len(targets) > 1 else line)

    @property
    def _modes(self) -> dict[str, Mode]:
        """Return the modes with a selected check, by the contract's ids."""
        selected = {mode_ for _, mode_ in self.selection.cells}
        made = {one: mode.from_contract(self.claims, one, self.selection.without) for one in self.selection.modes}
        return {one: mode_ for one, mode_ in made.items() if mode_.id in selected}

    def _modes_of(self, host: WorkerHost) -> dict[str, Mode]:
        """Return those of the modes that a host tests, by the contract's ids."""
        chosen = chosen_modes(self.selection, self.claims, self._hosts[host])
        return {one: mode_ for one, mode_ in self._modes.items() if one in chosen}

    def run(self, folder: Path | None = None) -> tuple[int, Sequence[Record]]:
        """Test everything once, show one summary of all, and return the exit status and the records.

        Args:
            folder: for the records, instead of the run's own.
        """
        run = labels.new_run()
        logs.write_to(run)
        began = time.monotonic()
        results = folder or paths.run_folder(run)
        colors = ("--color=yes",) if colored() else ()
        # The leader shows what pytest's header, dots and counts would.
        silence = ("-q",) * (2 + self.selection.verbose) if self.selection.verbose <= 0 else ()
        workers = WorkerPool(
            [task for host in self._hosts for task in self._tasks(host)],
            RunSettings(
                run,
                (*colors, *self.arguments, *sessions.results_option(folder), *silence),
                self.at_once,
                first_failure_ends=self.selection.max_failures == 1,
                junit=self.selection.junit,
            ),
            self.progress,
            self.echo,
        )
        status = workers.run()
        files = sorted(results.glob(record.file_name("*", run)))
        records = [one for file in files for one in record.read_file(file, Record)]
        if records:
            self.echo(
                sessions.summary_of_all(
                    self.claims,
                    "all modes and hosts" if len(self._hosts) > 1 else "all modes",
                    records,
                    results,
                    color=colored(),
                    seconds=time.monotonic() - began,
                    reached=workers.reached,
                    # With modes by host, the selection has the recommended ones of all kinds of hosts.
                    selected=() if self.selection.modes_by_host else self.selection.cells,
                    announced=self._announced,
                )
            )
        else:
            self.echo(terminal.totals([], seconds=time.monotonic() - began, reached=workers.reached))
        return self._with_requirements(status, records), records

    @property
    def _announced(self) -> frozenset[str]:
        """Return the reasons why modes cannot run, if the user has read them."""
        if self.selection.verbose < 0:
            return frozenset()
        return frozenset(reason for reasons in self._unsupported.values() for reason in reasons.values())

    def _tasks(self, host: WorkerHost) -> Iterator[Task]:
        """Yield a task for each mode that can run, and one for all others, whose checks are only recorded."""
        unsupported = self._unsupported.get(host, {})
        known = durations.recorded(host.name, self.selection.results)
        modes = self._modes_of(host)
        for name, one in modes.items():
            if one.id not in unsupported:
                seconds = [
                    taken
                    for key, taken in known.items()
                    if key.mode == one.id and (key.feature, key.mode) in self.selection.cells
                ]
                yield Task(
                    host,
                    (name,),
                    self._exclusive(host, one),
                    checks=self.selection.checks[one.id],
                    seconds=sum(seconds) if seconds else None,
                )
        if unsupported:
            yield Task(host, tuple(name for name, one in modes.items() if one.id in unsupported), runs=False)

    def _exclusive(self, host: WorkerHost, mode_: Mode) -> frozenset[str]:
        """Return the parts of a host that only one worker at a time can use."""
        named = self.selection.pci_devices or _pci_devices(host.arguments)
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
    """Return the contract's ids of the modes that a host tests."""
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
            asked=[
                mode.from_contract(claims, one, selection.without).id
                for one in chosen_modes(selection, claims, fingerprint)
            ],
            fingerprint=fingerprint,
        )
    ]


def _pci_devices(arguments: Iterable[str]) -> list[str]:
    """Return the addresses of PCI devices in pytest's options for one host."""
    words = (word.partition("=") for word in arguments)
    return [value for option, _, value in words if option in SETTINGS["pci-device"].options]


def colored() -> bool:
    """Return whether the output is a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR")
