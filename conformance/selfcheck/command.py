"""A selfcheck on one host, from its first change to its last."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance.container.container import READY_SECONDS
from conformance.errors import HarnessError
from conformance.model import contract, record
from conformance.run.context import Run
from conformance.run.preparation import unrecorded
from conformance.selfcheck import helpers as helping
from conformance.selfcheck import outcome, trial
from conformance.selfcheck.change import Change
from conformance.selfcheck.outcome import Outcome, Result
from conformance.util.progress import Progress


def selfcheck(
    changes: Sequence[Change],
    progress: Progress,
    *,
    folder: Path = outcome.FOLDER,
    tag: str | None = None,
    host_name: str | None = None,
    host_facts: Mapping[str, str] = MappingProxyType({}),
    ready_seconds: float = READY_SECONDS,
    pci_devices: Sequence[str] = (),
    at_once: int = 1,
) -> list[Outcome]:
    """Test each change; recorded outcomes of the same change, suites, image and host are used again.

    Args:
        changes: the changes.
        progress: gets each change.
        folder: the folder of the records; each outcome is recorded at once.
        tag: the image; the project's own by default.
        host_name: the host's name in records; made from its engine by default.
        host_facts: further facts of the host for records.
        ready_seconds: deadline for libvirt after a container's start.
        pci_devices: addresses of PCI devices of the host for guests.
        at_once: number of changes to test in parallel, on the engine of ``DOCKER_HOST`` or its default.

    Returns:
        The outcomes, in the order of the changes.

    Raises:
        HarnessError: the machine cannot run it, or a change cannot be made; records stay.
        ContractError: the contract lacks a mode or feature of a change.
    """
    claims = contract.load()
    for one in changes:
        one.require(claims)
    with unrecorded(
        claims,
        progress,
        tag=tag,
        host_name=host_name,
        host_facts=host_facts,
        ready_seconds=ready_seconds,
        pci_devices=pci_devices,
    ) as run:
        checking = _Selfcheck(run, changes, progress, folder)
        helpers = min(at_once, checking.left) - 1
        if helpers > 0:
            _ = run.peer_network  # made once here, before all helpers make it
        words = (str(folder.resolve()), tag or "", str(ready_seconds), *(one.id for one in changes))
        with helping.helped(max(helpers, 0), "conformance.selfcheck.worker", words, progress):
            return checking.ask()


class _Selfcheck:
    """The changes of one run, and their outcomes.

    Args:
        run: the run.
        changes: the changes.
        progress: gets each change.
        folder: the folder of the records.
    """

    def __init__(self, run: Run, changes: Sequence[Change], progress: Progress, folder: Path) -> None:
        self._run = run
        self._progress = progress
        self._folder = folder
        self._file = folder / record.file_name(run.host_name, run.id)
        self._turns = [(change, turn) for change in changes for turn in range(1, change.repeat + 1)]
        self._before = outcome.read(folder)

    @property
    def left(self) -> int:
        """The number of changes without an outcome."""
        return sum(self._answered(change, turn, self._before) is None for change, turn in self._turns)

    def ask(self) -> list[Outcome]:
        """Test changes without an outcome that no other process is testing; later those that others gave up."""
        found = helping.share(
            self._turns,
            name=lambda turn: f"{self._folder.resolve()} {self._run.host_name} {turn[0].id} {turn[1]}",
            answer=lambda turn: self._answered(*turn, outcome.read(self._folder)),
            test=lambda turn: self._outcome(*turn),
        )
        self._progress.clear()
        return found

    def _outcome(self, change: Change, turn: int) -> Outcome:
        """Test a change, and record the outcome."""
        number = self._turns.index((change, turn)) + 1
        self._progress(f"{number} of {len(self._turns)}: {change.id}: {change.title}")
        try:
            there = trial.ask(self._run, change, turn, self._progress)
        except HarnessError as error:
            raise HarnessError(f"{change.id}: {error.message}", error.remedy) from error
        record.append(self._file, there)
        self._progress(f"{change.id}: {there.result}{f': {there.why}' if there.why else ''}")
        return there

    def _answered(self, change: Change, turn: int, known: Iterable[Outcome]) -> Outcome | None:
        """Return the newest outcome of the same change, if any; a change that could not run is tested again."""
        asked = (change.id, change.digest, trial.question(self._run.contract, change), turn)
        found = [
            one
            for one in known
            if (one.change, one.digest, one.suites, one.turn) == asked and _same_place(one, self._run)
        ]
        return (
            found[-1] if found and (found[-1].result is not Result.NOT_RUN or found[-1] not in self._before) else None
        )


def _same_place(one: Outcome, run: Run) -> bool:
    """Return whether an outcome belongs to this image and host."""
    return one.image.identity == run.image.identity and one.host.identity == run.host.identity


def summary(outcomes: Sequence[Outcome]) -> str:
    """Summarise the outcomes in a few lines."""
    counts = {result: sum(one.result is result for one in outcomes) for result in Result}
    minutes = sum(one.seconds for one in outcomes) / 60
    lines = [f"{one.change}: {one.result}: {one.why}" for one in outcomes if not one.result.good]
    told = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return "\n".join([*lines, f"{told}; {minutes:.0f} minutes of tests"])
