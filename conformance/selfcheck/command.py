"""A selfcheck from its first change to its last, on one host."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance.container.container import READY_SECONDS
from conformance.errors import HarnessError
from conformance.model import contract, record
from conformance.run.context import Run, unrecorded
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
    """Ask about each change; what was recorded of the same question to the same image here is not asked again.

    Args:
        changes: what is asked about.
        progress: told what is asked, and how much there is still to ask.
        folder: where outcomes are recorded, each as soon as it is known.
        tag: the image; ours by default.
        host_name: what records call the host; made from its engine by default.
        host_facts: what they say of it beside what its engine tells.
        ready_seconds: how long libvirt may take to answer after a container's start.
        pci_devices: addresses of the host's PCI devices that guests may be given.
        at_once: so many are asked about side by side, on the engine that ``DOCKER_HOST`` or its default names.

    Returns:
        What came of these changes, in their order.

    Raises:
        HarnessError: the machine cannot run it, or a change cannot be made; what was recorded stays.
        ContractError: a change names what the contract does not have.
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
            _ = run.peer_network  # what it is made from, all would begin to make
        words = (str(folder.resolve()), tag or "", str(ready_seconds), *(one.id for one in changes))
        with helping.helped(max(helpers, 0), words, progress):
            return checking.ask()


class _Selfcheck:
    """What is asked of one run, and what came of it.

    Args:
        run: where.
        changes: what is asked about.
        progress: told what is asked, and how much there is still to ask.
        folder: where outcomes are recorded.
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
        """Return how many are still to be asked."""
        return sum(self._answered(change, turn, self._before) is None for change, turn in self._turns)

    def ask(self) -> list[Outcome]:
        """Ask what is not answered, and nobody else is asking; then what others did not come to answer."""
        found: dict[int, Outcome] = {}
        while len(found) < len(self._turns):
            before = len(found)
            for number, (change, turn) in enumerate(self._turns, start=1):
                if number not in found and (there := self._outcome(number, change, turn)):
                    found[number] = there
            if len(found) == before:
                time.sleep(helping.LOOK_SECONDS)
        self._progress.clear()
        return [found[number] for number in sorted(found)]

    def _outcome(self, number: int, change: Change, turn: int) -> Outcome | None:
        """Return what came of a change, asking if need be; none while somebody else asks about it."""
        with helping.claimed(f"{self._folder.resolve()} {self._run.host_name} {change.id} {turn}") as mine:
            there = self._answered(change, turn, outcome.read(self._folder))
            if there or not mine:
                return there
            self._progress(f"{number} of {len(self._turns)}: {change.id}: {change.title}")
            try:
                there = trial.ask(self._run, change, turn, self._progress)
            except HarnessError as error:
                raise HarnessError(f"{change.id}: {error.message}", error.remedy) from error
            record.append(self._file, there)
            self._progress(f"{change.id}: {there.result}{f': {there.why}' if there.why else ''}")
            return there

    def _answered(self, change: Change, turn: int, known: Iterable[Outcome]) -> Outcome | None:
        """Return the newest answer to the same question, if there is one; what could not run then is asked again."""
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
    """Say whether an outcome is of this image on this host."""
    return one.image.identity == run.image.identity and one.host.identity == run.host.identity


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say in a few lines what came of it."""
    counts = {result: sum(one.result is result for one in outcomes) for result in Result}
    minutes = sum(one.seconds for one in outcomes) / 60
    lines = [f"{one.change}: {one.result}: {one.why}" for one in outcomes if not one.result.good]
    told = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return "\n".join([*lines, f"{told}; {minutes:.0f} minutes of asking"])
