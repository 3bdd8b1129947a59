"""The documented need for each exposure, compared with the measured one."""

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
    """No tested feature needs it, and not all features were tested."""


@dataclass(frozen=True)
class Part:
    """Measurements of one part of a mode.

    Attributes:
        id: the id of the exposure, capability or switch.
        asked: whether every feature that works in the whole mode was tested without it.
        breaks: the answer of each feature that does not work without it.
        unknown: the answer of each feature that the host cannot test without it.
        confirmed: whether the removal broke these features twice, and they worked again afterwards.
        named: whether the image's log named the part when its absence broke a feature.
        last: the answer of each feature that fails, or cannot be tested, when the smallest set for all features lacks
            the part; empty for a part outside the set.
        holds: the verdict on the documentation.
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
    """The result of one search.

    Attributes:
        mode: the id of the mode.
        host: the host.
        image: the image.
        search: the search.
        findings: its findings.
        parts: the measurements of each part, in the contract's order.
        unasked: features that this host cannot test, and the reasons.
        left_out: features that were not tested.
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
    """Return the results of each host and mode, in the order of hosts and modes.

    Of several images, or kernels of a host, the newest one with a finished search counts, else the newest one.

    Raises:
        HarnessError: there are configurations, and the contract knows the mode of none.
    """
    groups: dict[tuple[Identity, str], list[Configuration]] = {}
    for one in configurations:
        groups.setdefault((one.host.identity, one.mode), []).append(one)
    order = {claims.id: place for place, claims in enumerate(contract.modes)}
    if groups and not any(mode in order for _, mode in groups):
        raise HarnessError(
            "the tables of privileges would be empty: the contract has none of the recorded modes, which are"
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
    """Return all exposures and switches, in the contract's order."""
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
    """Return the answers of features that break when the smallest set for all features loses a part."""
    if findings.least is None or part not in findings.least:
        return {}
    gone = frozenset(search.parts) - findings.least | {part}
    said = [start.answers for start in known if frozenset(start.without) == gone]
    bad = {
        feature: [answers[feature] for answers in said if feature in answers and answers[feature].verdict != "works"]
        for feature in search.features
    }
    # A feature that failed once and worked twice works, as in the search.
    asked = {feature: sum(feature in answers for answers in said) for feature in bad}
    return {feature: found[0] for feature, found in bad.items() if found and 2 * len(found) >= asked[feature]}


def _fails(start: Configuration, features: dict[str, Answer]) -> bool:
    return any(feature in start.answers and start.answers[feature].verdict == "fails" for feature in features)


def holds(one: Exposure | Switch, *, needed: bool, whole: bool) -> Holds:
    """Compare the documented need with the measured one.

    Args:
        one: the exposure or switch.
        needed: whether a tested feature needs it.
        whole: whether all features were tested; only then it is known to be unnecessary.
    """
    if isinstance(one, Switch) or one.documented in ("default", "undocumented"):
        return Holds.SILENT
    if not needed and not whole:
        return Holds.OPEN
    if one.documented == "required":
        return Holds.HOLDS if needed else Holds.TOO_STRICT
    return Holds.TOO_LAX if needed else Holds.HOLDS


def names(one: Exposure | Switch) -> tuple[str, ...]:
    """Return the words in the image's log that name it as missing."""
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
