"""A selfcheck from its first change to its last, on one host."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance import contract, record
from conformance.container import READY_SECONDS
from conformance.contract import Contract
from conformance.errors import HarnessError
from conformance.progress import Progress
from conformance.run import Run, unrecorded
from conformance.selfcheck import asking, outcome
from conformance.selfcheck.change import Change
from conformance.selfcheck.outcome import Outcome, Result


def selfcheck(
    changes: Sequence[Change],
    progress: Progress,
    *,
    folder: Path = outcome.FOLDER,
    tag: str | None = None,
    host_name: str | None = None,
    host_facts: Mapping[str, str] = MappingProxyType({}),
    ready_seconds: float = READY_SECONDS,
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
        claims, progress, tag=tag, host_name=host_name, host_facts=host_facts, ready_seconds=ready_seconds
    ) as run:
        return _selfcheck(run, changes, progress, folder)


def _selfcheck(run: Run, changes: Sequence[Change], progress: Progress, folder: Path) -> list[Outcome]:
    file = folder / record.file_name(run.host_name, run.id)
    known = [one for one in outcome.read(folder) if _same_place(one, run)]
    turns = [(change, turn) for change in changes for turn in range(1, change.repeat + 1)]
    found: list[Outcome] = []
    for number, (change, turn) in enumerate(turns, start=1):
        there = _answered(run.contract, change, turn, known)
        if not there:
            progress(f"{number} of {len(turns)}: {change.id}: {change.title}")
            try:
                there = asking.ask(run, change, turn, progress)
            except HarnessError as error:
                raise HarnessError(f"{change.id}: {error.message}", error.remedy) from error
            record.append(file, there)
            progress(f"{change.id}: {there.result}{f': {there.why}' if there.why else ''}")
        found.append(there)
    progress.clear()
    return found


def _same_place(one: Outcome, run: Run) -> bool:
    """Say whether an outcome is of this image on this host."""
    return one.image.id == run.image.id and one.host.identity == run.host.identity


def _answered(claims: Contract, change: Change, turn: int, known: Iterable[Outcome]) -> Outcome | None:
    """Return the newest answer to the same question, if there is one; what could not run is asked again."""
    asked = (change.id, change.digest, asking.question(claims, change), turn)
    found = [one for one in known if (one.change, one.digest, one.suites, one.turn) == asked]
    return found[-1] if found and found[-1].result is not Result.NOT_RUN else None


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say in a few lines what came of it."""
    counts = {result: sum(one.result is result for one in outcomes) for result in Result}
    minutes = sum(one.seconds for one in outcomes) / 60
    lines = [f"{one.change}: {one.result}: {one.why}" for one in outcomes if not one.result.good]
    told = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return "\n".join([*lines, f"{told}; {minutes:.0f} minutes"])
