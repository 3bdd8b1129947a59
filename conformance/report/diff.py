"""What differs between two sets of records, and what of it is worse."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.matrix import Cell, HostMatrix
from conformance.model.record import Identity, Record, names
from conformance.model.verdict import Verdict

NOISE_RUNS = 3
"""So many old runs it takes to know how much durations differ by themselves."""

NOISE_SHARE = 0.25
NOISE_SECONDS = 2.0
"""Less than this share, or than so many seconds, is no difference whatever the old runs say."""


class Kind(StrEnum):
    """How something differs."""

    NEWLY_FAILING = "newly failing"
    NEWLY_FLAKY = "newly flaky"
    SLOWER = "slower"
    REMOVED = "removed"
    CHANGED = "changed"
    NEWLY_FIXED = "newly fixed"
    ADDED = "added"


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: how it differs.
        worse: whether somebody has to look at it.
        feature: its id.
        mode: its id.
        check: which of the feature's checks; none where it is about all of them.
        before: what was said; empty where nothing was.
        after: what is said; likewise.
        reason: why, of what is said now.
    """

    kind: Kind
    worse: bool
    feature: str
    mode: str
    check: str
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """What differs on one host.

    Attributes:
        old: the host's name in the old records; none where they do not know it.
        new: likewise in the new ones.
        facts: what is said of host and image, where that differs: old and new.
        changes: what is said of the cells, where that differs.
        timed: how many cells' durations could be compared.
    """

    old: str | None
    new: str | None
    facts: Mapping[str, tuple[str, str]]
    changes: tuple[Change, ...]
    timed: int

    @property
    def worse(self) -> bool:
        """Say whether anything is."""
        return any(change.worse for change in self.changes)


Place = tuple[str, str, str]
"""Feature, mode and check."""


def compare(contract: Contract, old: Iterable[Record], new: Iterable[Record]) -> list[Comparison]:
    """Compare two sets of records, host by host.

    A host is compared with itself, whatever its image is called; one host alone with one alone, whatever these are
    called. Of each check the newest answer counts, and whether the others contradict it.
    """
    before, after = matrix.build(contract, old), matrix.build(contract, new)
    called = names(host.host for host in (*before, *after))
    return [_compare(contract, one, other, called) for one, other in _pairs(before, after)]


def _pairs(
    old: Sequence[HostMatrix], new: Sequence[HostMatrix]
) -> Iterator[tuple[HostMatrix | None, HostMatrix | None]]:
    alone = len(old) == len(new) == 1
    keys: list[Callable[[HostMatrix], Hashable]] = [
        lambda one: (one.host.identity, one.image.tag),
        lambda one: one.host.identity,
        lambda one: one.host.name if not alone else "",
    ]
    olds, news = list(old), list(new)
    for key in keys:
        before, after = Counter(map(key, olds)), Counter(map(key, news))
        for one in [one for one in olds if before[key(one)] == after[key(one)] == 1]:
            other = next(other for other in news if key(other) == key(one))
            olds.remove(one)
            news.remove(other)
            yield one, other
    yield from ((one, None) for one in olds)
    yield from ((None, other) for other in news)


def _compare(
    contract: Contract, old: HostMatrix | None, new: HostMatrix | None, called: Mapping[Identity, str]
) -> Comparison:
    before, after = _answers(old), _answers(new)
    listed = _checks(new)
    changes = [
        change
        for place in sorted(before.keys() | after.keys())
        if (change := _change(contract, place, before.get(place), after.get(place), listed))
    ]
    timed, slower = _slower(old, new) if old and new else (0, [])
    order = list(Kind)
    return Comparison(
        old=called[old.host.identity] if old else None,
        new=called[new.host.identity] if new else None,
        facts=_facts(old, new) if old and new else {},
        changes=tuple(sorted([*changes, *slower], key=lambda change: order.index(change.kind))),
        timed=timed,
    )


@dataclass(frozen=True)
class _Answer:
    """What a set of records says of one check: its newest answer, and those that contradict each other."""

    record: Record
    conflict: Sequence[Record]

    @property
    def verdict(self) -> Verdict:
        return matrix.best(one.verdict for one in self.conflict) if self.conflict else self.record.verdict

    @property
    def words(self) -> str:
        if not self.conflict:
            return self.verdict.words
        return (
            f"{self.verdict.words} {sum(one.verdict is self.verdict for one in self.conflict)} of {len(self.conflict)}"
        )

    @property
    def worked(self) -> bool:
        return self.verdict in (Verdict.WORKS, Verdict.FIXED)

    @property
    def wrong(self) -> bool:
        return not self.conflict and self.verdict in (Verdict.FAILS, Verdict.ERROR)


def _answers(host: HostMatrix | None) -> dict[Place, _Answer]:
    runs: dict[Place, dict[str, Record]] = defaultdict(dict)
    for record in host.records if host else ():
        runs[record.feature, record.mode, record.check][record.run] = record
    answers = {}
    for place, by_run in runs.items():
        newest = by_run[max(by_run)]
        broke = newest.verdict is Verdict.ERROR
        answers[place] = _Answer(newest, () if broke else matrix.conflict(newest, [[one] for one in by_run.values()]))
    return answers


def _checks(host: HostMatrix | None) -> dict[tuple[str, str], frozenset[str]]:
    """Return the names of the suite's checks of each cell that was asked at all."""
    cells = host.cells if host else {}
    return {place: frozenset(cell.records[-1].checks) for place, cell in cells.items()}


def _change(
    contract: Contract,
    place: Place,
    before: _Answer | None,
    after: _Answer | None,
    listed: Mapping[tuple[str, str], frozenset[str]],
) -> Change | None:
    feature, mode, check = place
    if after is None:
        # What the suite no longer has, nobody misses; what it has and nobody asked is an answer that was lost.
        gone = (feature, mode) in listed and not {check, check.partition("[")[0]} & listed[feature, mode]
        kind, worse = Kind.REMOVED, bool(before and before.record.verdict.decided and not gone)
    elif before is None:
        kind, worse = Kind.ADDED, after.wrong
    else:
        found = _kind(before, after)
        if found is None:
            return None
        kind, worse = found
    said, says = before.words if before else "", after.words if after else ""
    if before and after and _ran_otherwise(before, after):
        said, says = f"{said} ({before.record.accel})", f"{says} ({after.record.accel})"
    why = matrix.reason(contract, after.record) if after else ""
    return Change(kind, worse, feature, mode, check, said, says, why)


def _kind(before: _Answer, after: _Answer) -> tuple[Kind, bool] | None:
    """Say how two answers to one question differ, and whether that is worse."""
    if after.conflict:
        return None if before.conflict else (Kind.NEWLY_FLAKY, not before.wrong)
    if (after.wrong and not before.wrong) or (before.worked and after.record.verdict is Verdict.KNOWN_FAILURE):
        return Kind.NEWLY_FAILING, True
    if after.worked and not before.worked and (before.wrong or before.record.verdict is Verdict.KNOWN_FAILURE):
        return Kind.NEWLY_FIXED, False
    if (before.words, before.record.cause) != (after.words, after.record.cause) or _ran_otherwise(before, after):
        return Kind.CHANGED, before.worked and not after.record.verdict.decided
    return None


def _ran_otherwise(before: _Answer, after: _Answer) -> bool:
    return None not in (ran := (before.record.accel, after.record.accel)) and len(set(ran)) > 1


def _facts(old: HostMatrix, new: HostMatrix) -> dict[str, tuple[str, str]]:
    def all_of(one: HostMatrix) -> dict[str, str]:
        image = {"image": one.image.tag, "image's id": one.image.id, "image's base": one.image.base}
        facts = {"host": one.host.name} | one.host.fingerprint | image | one.image.versions
        return {name: str(fact) for name, fact in facts.items()}

    before, after = all_of(old), all_of(new)
    names = dict.fromkeys([*before, *after])
    return {name: (before.get(name, ""), after.get(name, "")) for name in names if before.get(name) != after.get(name)}


# ------------------------------------------------------------------------------------------------ durations


def _slower(old: HostMatrix, new: HostMatrix) -> tuple[int, list[Change]]:
    """Compare how long cells took, where it is known how much that differs by itself.

    Which check pays for a container and for a shared boot depends on what else is asked, so only runs that asked a
    mode the same count. A cell is slower if its fastest new run took longer than its slowest old one, by more than the
    old ones differ from each other.

    Returns:
        How many cells could be compared, and those that are slower.
    """
    if old.host.identity != new.host.identity:
        return 0, []
    timed, slower = 0, []
    for (feature, mode), cell in new.cells.items():
        asked = _asked(new, mode)[cell.run]
        before, after = _seconds(old, cell, asked), _seconds(new, cell, asked)
        if len(before) < NOISE_RUNS or not all(one.verdict.decided for one in cell.records):
            continue
        timed += 1
        noise = max(before[-1] - before[0], NOISE_SHARE * before[-1], NOISE_SECONDS)
        if after[0] > before[-1] + noise:
            slower.append(Change(Kind.SLOWER, True, feature, mode, "", _range(before), _range(after)))
    return timed, slower


def _range(seconds: Sequence[float]) -> str:
    """Say how long something took, of times that are sorted."""
    if len(seconds) == 1:
        return f"{seconds[0]:.1f} s"
    return f"{seconds[0]:.1f} to {seconds[-1]:.1f} s in {len(seconds)} runs"


def _seconds(host: HostMatrix, cell: Cell, asked: set[tuple[str, str]]) -> list[float]:
    """Return how long a cell took in each of a host's runs that can be compared with it, the shortest first.

    Args:
        host: whose runs.
        cell: what is compared.
        asked: what its run asked in its mode.
    """
    feature, mode = cell.records[0].feature, cell.records[0].mode
    runs = host.history.get((feature, mode), ())
    if not runs:
        return []
    newest, by_run = runs[-1].records[0], _asked(host, mode)
    return sorted(
        sum(record.seconds for record in one.records)
        for one in runs
        if by_run[one.run] == asked
        and (_said(one), one.accels) == (_said(cell), cell.accels)
        and (one.records[0].host, one.records[0].image.id) == (newest.host, newest.image.id)
    )


def _said(cell: Cell) -> dict[str, Verdict]:
    return {record.check: record.verdict for record in cell.records}


def _asked(host: HostMatrix, mode: str) -> dict[str, set[tuple[str, str]]]:
    """Return what each run asked in a mode."""
    asked: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in host.records:
        if record.mode == mode:
            asked[record.run].add((record.feature, record.check))
    return asked


# ---------------------------------------------------------------------------------------------- for people


def render(contract: Contract, compared: Sequence[Comparison]) -> str:
    """Say what differs, the worst first; checks of a cell for which the same is said stand together."""
    return "\n\n".join("\n".join(_lines(contract, one)) for one in compared)


def _lines(contract: Contract, compared: Comparison) -> Iterator[str]:
    if compared.new is None:
        yield f"{compared.old}: nothing new is recorded"
    elif compared.old is None:
        yield f"{compared.new}: nothing old is recorded"
    else:
        yield f"{compared.new}: " + ("" if compared.changes else "no verdict differs")
    yield from (f"  {name}: {said or '(none)'} -> {says or '(none)'}" for name, (said, says) in compared.facts.items())
    titles = {feature.id: feature.title for feature in contract.features}
    for kind in Kind:
        together: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for change in compared.changes:
            if change.kind is kind:
                said = " -> ".join(filter(None, (change.before, change.after)))
                why = f": {' '.join(change.reason.split())}" if change.reason else ""
                together[change.mode, titles.get(change.feature, change.feature), said + why].append(change.check)
        if together:
            yield f"  {kind}" + (" (worse)" if any(one.worse for one in compared.changes if one.kind is kind) else "")
        for (mode, title, said), checks in together.items():
            yield f"    {mode} | {title} | {said}"
            yield from (f"      {check}" for check in checks if check)
    if compared.old and compared.new and not compared.timed:
        yield f"  durations are not compared: that takes {NOISE_RUNS} old runs of one host and image, asked the same"
