"""What the documentation says of the need for each exposure, beside what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from conformance.errors import HarnessError
from conformance.model.contract import Contract, Switch
from conformance.model.exposure import Capability, CgroupNamespace, Device, Exposure, Mount, SecurityOption
from conformance.model.record import Host, Identity, Image
from conformance.privileges import configuration
from conformance.privileges.configuration import Answer, Configuration
from conformance.privileges.search import Findings, Search


class Holds(StrEnum):
    """Whether a claim about the need for an exposure is right."""

    HOLDS = "holds"
    TOO_STRICT = "too strict"
    TOO_LAX = "too lax"
    SILENT = "not documented"
    OPEN = "open"
    """Nothing that was asked needs it, and not everything was asked."""


@dataclass(frozen=True)
class Part:
    """What was measured of one part of a mode.

    Attributes:
        id: the exposure's, capability's or switch's.
        asked: whether every feature that works in the whole mode was asked without it.
        breaks: what each feature that does not work without it said.
        unknown: what each feature said that the host cannot be asked without it.
        confirmed: whether that was seen twice, and was mended by putting it back.
        named: whether the image's start-up named it where it was missing and broke something.
        last: what each feature said that does not work, or cannot be asked, where the smallest set for all features
            lacks it; nothing of features that were not asked there, nor of a part that is not in the set.
        holds: what that makes of the documentation.
    """

    id: str
    asked: bool
    breaks: dict[str, Answer]
    unknown: dict[str, Answer]
    confirmed: bool
    named: bool
    last: dict[str, Answer]
    holds: Holds


@dataclass(frozen=True)
class Measured:
    """What one search found.

    Attributes:
        mode: the mode that was searched.
        host: where.
        image: what.
        search: the search.
        findings: what it says.
        parts: what was measured of each part, in the contract's order.
        unasked: features that this host cannot be asked, and why.
        left_out: features that nobody asked.
    """

    mode: str
    host: Host
    image: Image
    search: Search
    findings: Findings
    parts: list[Part]
    unasked: dict[str, str]
    left_out: tuple[str, ...]


def measured(contract: Contract, configurations: Sequence[Configuration]) -> list[Measured]:
    """Say what the configurations of each host and mode show, in the order of hosts and modes.

    Of several images, or kernels of a host, the newest counts whose search is finished; where none is, the newest.

    Raises:
        HarnessError: there are configurations, and the contract knows the mode of none.
    """
    groups: dict[tuple[Identity, str], list[Configuration]] = {}
    for one in configurations:
        groups.setdefault((one.host.identity, one.mode), []).append(one)
    order = {claims.id: place for place, claims in enumerate(contract.modes)}
    if groups and not any(mode in order for _, mode in groups):
        raise HarnessError(
            "the tables of privileges would be empty: no recorded search is of a mode of the contract, but of"
            f" {', '.join(sorted({mode for _, mode in groups}))}",
            "name modes in contract.toml as the records do, or remove the records",
        )
    keys = sorted((key for key in groups if key[1] in order), key=lambda key: (key[0], order[key[1]]))
    return [_measured(contract, mode, groups[host, mode]) for host, mode in keys]


def _measured(contract: Contract, mode: str, configurations: list[Configuration]) -> Measured:
    subjects = dict.fromkeys(one.subject for one in reversed(configurations))
    searched = [[one for one in configurations if one.subject == subject] for subject in subjects]
    known = next((one for one in searched if _finished(contract, mode, one)), searched[0])
    newest = known[-1]
    search = configuration.search(contract, mode, known)
    findings = search.findings()
    unasked = {
        feature: said.reason
        for one in known
        if not one.without
        for feature, said in one.answers.items()
        if said.verdict == "unsupported"
    }
    silent = tuple(one.id for one in contract.searched if one.id not in search.features)
    parts = [
        _part(one, search, findings, known, whole=not silent) for one in things(contract) if one.id in search.parts
    ]
    left_out = tuple(one for one in silent if one not in unasked)
    return Measured(mode, newest.host, newest.image, search, findings, parts, unasked, left_out)


def _finished(contract: Contract, mode: str, known: Sequence[Configuration]) -> bool:
    return configuration.search(contract, mode, known).wants() is None


def things(contract: Contract) -> list[Exposure | Switch]:
    """Return all that can be part of a mode, in the contract's order."""
    return [*contract.exposures, *contract.switches]


def _part(
    one: Exposure | Switch, search: Search, findings: Findings, known: Sequence[Configuration], *, whole: bool
) -> Part:
    alone = [start for start in known if start.without == (one.id,)]
    asked = set(findings.needs) <= {feature for start in alone for feature in start.answers}
    breaks = {
        feature: next(said for start in alone if (said := start.answers[feature]).verdict == "fails")
        for feature in search.features
        if one.id in findings.needs.get(feature, ())
    }
    unknown = {
        feature: said
        for start in alone
        for feature, said in start.answers.items()
        if feature in search.features and said.verdict == "unsupported" and feature not in breaks
    }
    broke = [start for start in alone if _fails(start, breaks)]
    return Part(
        id=one.id,
        asked=asked,
        breaks=breaks,
        unknown=unknown,
        confirmed=all(findings.confirmed[feature, one.id] for feature in breaks),
        named=all(any(word in line for line in start.warnings for word in names(one)) for start in broke),
        last=_last(one.id, search, findings, known),
        holds=holds(one, needed=bool(breaks), whole=whole and asked and not unknown),
    )


def _last(part: str, search: Search, findings: Findings, known: Sequence[Configuration]) -> dict[str, Answer]:
    """Return what does not work, and why, where the smallest set for all features lacks one of its parts."""
    if findings.least is None or part not in findings.least:
        return {}
    gone = frozenset(search.parts) - findings.least | {part}
    said = [start.answers for start in known if frozenset(start.without) == gone]
    bad = {
        feature: [answers[feature] for answers in said if feature in answers and answers[feature].verdict != "works"]
        for feature in search.features
    }
    # What failed once and worked twice works, as for the search.
    asked = {feature: sum(feature in answers for answers in said) for feature in bad}
    return {feature: found[0] for feature, found in bad.items() if found and 2 * len(found) >= asked[feature]}


def _fails(start: Configuration, features: dict[str, Answer]) -> bool:
    return any(feature in start.answers and start.answers[feature].verdict == "fails" for feature in features)


def holds(one: Exposure | Switch, *, needed: bool, whole: bool) -> Holds:
    """Compare the documented need with the measured one.

    Args:
        one: what is or is not needed.
        needed: whether something that was asked needs it.
        whole: whether all features were asked: only then is anything not needed.
    """
    if isinstance(one, Switch) or one.documented in ("default", "undocumented"):
        return Holds.SILENT
    if not needed and not whole:
        return Holds.OPEN
    if one.documented == "required":
        return Holds.HOLDS if needed else Holds.TOO_STRICT
    return Holds.TOO_LAX if needed else Holds.HOLDS


def names(one: Exposure | Switch) -> tuple[str, ...]:
    """Return the words by which the image's start-up may name what is missing."""
    match one:
        case Device():
            return (one.path,)
        case Mount():
            return (one.target,)
        case Capability():
            return (f" {one.id} ",)
        case SecurityOption():
            return (one.option,)
        case CgroupNamespace():
            return ("--cgroupns",)
        case _:
            return (one.id,)
