"""A search from its first start to its last, in one mode on one host."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance.container.container import READY_SECONDS
from conformance.errors import ContractError
from conformance.model import contract, record
from conformance.model.contract import Contract
from conformance.privileges import configuration
from conformance.privileges.configuration import Configuration
from conformance.privileges.configuration_runner import ConfigurationRunner
from conformance.privileges.search import Search
from conformance.run.context import Run
from conformance.run.preparation import unrecorded
from conformance.util.progress import Progress


def search(
    mode: str,
    progress: Progress,
    *,
    features: Sequence[str] = (),
    parts: Sequence[str] = (),
    folder: Path = configuration.FOLDER,
    tag: str | None = None,
    host_name: str | None = None,
    host_facts: Mapping[str, str] = MappingProxyType({}),
    ready_seconds: float = READY_SECONDS,
) -> tuple[Search, list[Configuration]]:
    """Search until all needs are known; recorded answers of this image on this host are used again.

    Args:
        mode: the id of the mode.
        progress: gets each start, and the most starts that are left.
        features: ids of the features to test; all if empty.
        parts: ids of the parts to remove; all removable ones if empty.
        folder: the folder of the records; each configuration is recorded at once.
        tag: the image; the project's own by default.
        host_name: the host's name in records; made from its engine by default.
        host_facts: further facts of the host for records.
        ready_seconds: deadline for libvirt after a container's start.

    Returns:
        The search, and the configurations that it knows.

    Raises:
        HarnessError: the machine cannot run it, or something broke; records stay.
        ContractError: there is no such mode or feature, or the mode has no such part.
    """
    claims = contract.load()
    require(claims, mode, features, parts)
    with unrecorded(
        claims,
        progress,
        tag=tag,
        host_name=host_name,
        host_facts=host_facts,
        ready_seconds=ready_seconds,
        minimise_boots=True,
    ) as run:
        return _search(claims, run, mode, progress, features, parts, folder)


def require(claims: Contract, mode: str, features: Sequence[str], parts: Sequence[str] = ()) -> None:
    """Raise ContractError for an unknown mode, feature or part; to be called before an engine is started."""
    removable = configuration.by_danger(claims, mode)
    for feature in features:
        claims.feature(feature)
    for part in parts:
        if part not in removable:
            raise ContractError(
                f"the mode {mode} has no removable part {part!r}", f"choose one of: {', '.join(removable)}"
            )


def _search(
    claims: Contract,
    run: Run,
    mode: str,
    progress: Progress,
    features: Sequence[str],
    parts: Sequence[str],
    folder: Path,
) -> tuple[Search, list[Configuration]]:
    ask = ConfigurationRunner(run, mode)
    file = folder / f"{run.host_name}-{run.id}.jsonl"
    about = configuration.subject(mode, run.host, run.image)
    known = [one for one in configuration.read(folder) if one.subject == about]

    def start(without: Sequence[str], wanted: Sequence[str], left: str) -> None:
        lacking = f"{mode} without {', '.join(without)}" if without else mode
        progress(f"start {len(known) + 1}, {left}: {lacking}: {', '.join(wanted) or 'every feature'}")
        known.append(ask(without, wanted))
        record.append(file, known[-1])

    if not any(not one.without and {*features} <= {*one.answers} for one in known):
        start((), features, "the whole mode")
    made = configuration.search(claims, mode, known, features, parts)
    while want := made.wants():
        without = [part for part in made.parts if part in want.without]
        wanted = [feature for feature in made.features if feature in want.features]
        left = f"at most {want.left_in_step} left in step {want.step} of 4, {want.left} in all"
        start(without, wanted, left)
        made.learn(without, known[-1].works)
    progress.clear()
    return made, known


def summary(found: Search, known: Sequence[Configuration]) -> str:
    """Summarise the findings in a few lines."""
    findings = found.findings()
    lines = [f"{findings.starts} starts, {sum(one.seconds for one in known) / 60:.0f} minutes"]
    lines += [f"does not work in the whole mode: {one}" for one in sorted(findings.broken)]
    for part in found.parts:
        features = [one for one in found.features if part in findings.needs.get(one, ())]
        once = [one for one in features if not findings.confirmed[one, part]]
        if features:
            lines.append(
                f"without {part}: {', '.join(features)} broken" + (f" (only once: {', '.join(once)})" if once else "")
            )
    for feature, kept in findings.least_for.items():
        lines.append(f"enough for {feature}: {', '.join(sorted(kept)) or 'nothing'}")
    if findings.least is not None:
        lines.append(f"enough for all: {', '.join(sorted(findings.least)) or 'nothing'}")
    return "\n".join(lines)
