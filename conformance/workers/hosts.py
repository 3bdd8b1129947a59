"""One matrix spread over several sessions: of each mode on each host, several side by side, told of as one run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import environ

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
from conformance.run import preparation as runs
from conformance.util import logs
from conformance.util.progress import Progress
from conformance.workers import sessions
from conformance.workers.pool import Host, Shared, Task, WorkerPool
from conformance.workers.selection import Selection


@dataclass(frozen=True)
class EngineTarget:
    """An engine that is asked.

    Attributes:
        address: as DOCKER_HOST takes it.
        name: what records call its host; none where that is made from the engine.
        facts: what records say of it beside what its engine tells.
        options: pytest's, that are its own.
    """

    address: str
    name: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Return all that pytest has to be told of it."""
        name = () if self.name is None else (f"--host-name={self.name}",)
        return (*name, *(f"--host-fact={key}={value}" for key, value in self.facts.items()), *self.options)


@dataclass
class Spread:
    """A matrix whose modes are asked side by side, on one host or several.

    Attributes:
        selection: what is asked.
        words: pytest's options that say so.
        at_once: so many modes of a host are asked at once.
        progress: told what is waited for.
        echo: told what people read.
    """

    selection: Selection
    words: tuple[str, ...]
    at_once: int
    progress: Progress
    echo: Callable[[str], object]
    _hosts: dict[Host, HostFingerprint] = field(default_factory=dict, init=False)

    @property
    def claims(self) -> Contract:
        """Return what is claimed; raises ContractError."""
        return contract.load(self.selection.contract)

    def get_ready(self, places: Sequence[EngineTarget]) -> None:
        """Make on each host, once, what all its sessions would otherwise begin to make.

        Raises:
            HarnessError: something is missing; says what, and what to do.
        """
        for place in places:
            where = client.connect(place.address)
            if self.selection.image is None:
                image.ensure_image(where, self.progress)
            with engine_errors():
                peer_image(where.client, probe_media.ensure(self.progress))
            fingerprint = where.fingerprint()
            name = self.selection.host_name or place.name or runs.named(fingerprint)
            # JUnit has no place for a host but the suite's name.
            suite = ("-o", f"junit_suite_name={name}") if len(places) > 1 else ()
            self._hosts[Host(name, place.address, (*place.words, f"--host-name={name}", *suite))] = fingerprint

    def ask(self) -> tuple[int, Sequence[Record]]:
        """Ask everything once, and tell what all sessions together say; return the exit status, and the records."""
        run = labels.new_run()
        logs.write_to(run)
        modes = [mode.from_contract(self.claims, one, self.selection.without) for one in self.selection.modes]
        asked = {mode_ for _, mode_ in self.selection.questions}
        status = WorkerPool(
            [Task(host, one.id, self._alone(host, one)) for one in modes if one.id in asked for host in self._hosts],
            Shared(
                run,
                ("--color=yes", *self.words) if colored() else self.words,
                self.at_once,
                failing_ends=self.selection.failures == 1,
                junit=self.selection.junit,
            ),
            self.progress,
            self.echo,
        ).ask()
        files = sorted(self.selection.results.glob(record.file_name("*", run)))
        records = [one for file in files for one in record.read_file(file, Record)]
        if records:
            self.echo(sessions.together(self.claims, "all of it together", records, color=colored()))
            self.echo("\n".join(f"records: {file}" for file in files))
        return self._required(status, records), records

    def _alone(self, host: Host, asked: Mode) -> frozenset[str]:
        """Return what a mode has to have for itself on a host: two of it would be in each other's way."""
        named = self.selection.pci_devices or any(word.startswith("--pci-device") for word in host.words)
        needs = {
            "the host's network": asked.host_network,
            "the host's devices": named and (asked.vfio or asked.id in self.selection.giving),
        }
        return frozenset(what for what, needed in needs.items() if needed)

    def _required(self, status: int, records: Sequence[Record]) -> int:
        """Say what of the required is not there, and return the exit status that this leads to."""
        if status == pytest.ExitCode.INTERRUPTED:
            return status
        lacking = missing(self.selection, self.claims, self._hosts, records)
        for line in lacking:
            self.echo(f"required, and not there: {line}")
        quiet = status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        return int(pytest.ExitCode.TESTS_FAILED) if lacking and quiet else status


def missing(
    selection: Selection, claims: Contract, hosts: Mapping[Host, HostFingerprint], records: Sequence[Record]
) -> list[str]:
    """Return one line for each thing that ``--require`` names and that a host does not have or did not decide."""
    required = requirements.parse(claims, selection.required)
    return [
        f"{host.name}: {line}" if len(hosts) > 1 else line
        for host, fingerprint in hosts.items()
        for line in requirements.missing(
            required,
            claims,
            [one for one in records if one.host.name == host.name],
            asked=selection.modes,
            fingerprint=fingerprint,
        )
    ]


def colored() -> bool:
    """Say whether people read on a terminal that is to have colours."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR")
