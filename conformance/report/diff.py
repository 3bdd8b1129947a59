"""Differences between two sets of records, and whether they are worse."""

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
"""The number of old runs that the noise of durations is estimated from."""

NOISE_SHARE = 0.25
NOISE_SECONDS = 2.0
"""Differences below this share or this many seconds never count, whatever the old runs' noise."""


class Kind(StrEnum):
    """The kind of a difference."""

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
        kind: the kind of the difference.
        worse: whether it needs attention.
        feature: the feature's id.
        mode: the mode's id.
        check: the check; empty if the difference is about all checks of the cell.
        before: the old verdict or duration; empty if there is none.
        after: the new verdict or duration; empty if there is none.
        reason: the reason for the new verdict.
    """

    kind: Kind
    worse: bool
    feature: str
    mode: str
    check: str
    before: str
    after: str
    reason: str = ""


CellPlace = tuple[str, str]
"""Feature and mode."""

Place = tuple[str, str, str]
"""Feature, mode and check."""


@dataclass(frozen=True)
class Comparison:
    """The differences on one host.

    Attributes:
        old: the host's name in the old records; None if they do not have it.
        new: the host's name in the new records; None if they do not have it.
        facts: old and new value of each fact of host and image that differs.
        changes: the differences of cells.
        timed: the number of cells with comparable durations.
        absent: the old cells, as feature and mode, that no new run selects.
    """

    old: str | None
    new: str | None
    facts: Mapping[str, tuple[str, str]]
    changes: tuple[Change, ...]
    timed: int
    absent: tuple[CellPlace, ...] = ()

    @property
    def worse(self) -> bool:
        """Return whether any difference is worse."""
        return any(change.worse for change in self.changes)


def compare(
    contract: Contract, old: Iterable[Record], new: Iterable[Record], *, complete: bool = False
) -> list[Comparison]:
    """Compare two sets of records, host by host.

    A host is compared with itself, whatever its image's name. If each set has a single host, these are compared,
    whatever their names. Of each check the newest verdict counts, or all verdicts if identical runs disagree.

    Args:
        contract: for reasons and order.
        old: records.
        new: records, by default of a selection: the other cells and hosts are not missing.
        complete: whether the new records should have each host and cell of the old ones.
    """
    before, after = matrix.build(contract, old), matrix.build(contract, new)
    called = names(host.host for host in (*before, *after))
    return [_compare(contract, one, other, called, complete) for one, other in _pairs(before, after)]


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
    contract: Contract,
    old: HostMatrix | None,
    new: HostMatrix | None,
    called: Mapping[Identity, str],
    complete: bool,
) -> Comparison:
    before, after = _answers(old), _answers(new)
    listed = _checks(new)
    absent = frozenset() if complete else frozenset(old.cells if old else ()) - _selected(new)
    changes = [
        change
        for place in sorted(before.keys() | after.keys())
        if place[:2] not in absent and (change := _change(contract, place, before.get(place), after.get(place), listed))
    ]
    timed, slower = _slower(old, new) if old and new else (0, [])
    order = list(Kind)
    return Comparison(
        old=called[old.host.identity] if old else None,
        new=called[new.host.identity] if new else None,
        facts=_facts(old, new) if old and new else {},
        changes=tuple(sorted([*changes, *slower], key=lambda change: order.index(change.kind))),
        timed=timed,
        absent=tuple(sorted(absent)),
    )


def _selected(host: HostMatrix | None) -> frozenset[CellPlace]:
    """Return the cells that the runs of a host selected: a run tests each of its features in each of its modes.

    A run that selects a cell records it, also where the host cannot test it; one that ended early may lack it.
    """
    features, modes = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for record in host.records if host else ():
        features[record.run].add(record.feature)
        modes[record.run].add(record.mode)
    return frozenset((feature, mode) for run in features for feature in features[run] for mode in modes[run])


@dataclass(frozen=True)
class _Answer:
    """A check in one set of records: its newest record, and the records of identical runs that disagree."""

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
    """Return the names of the suite's checks, for each cell with records."""
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
        # A check that was removed from the suite is no loss; a check that did not run is.
        gone = (feature, mode) in listed and not {check, check.partition("[")[0]} & listed[feature, mode]
        kind, worse = Kind.REMOVED, bool(before and before.record.verdict.decided and not gone)
    elif before is None:
        kind, worse = Kind.ADDED, after.wrong
    else:
        found = _kind(before, after)
        if found is None:
            return None
        kind, worse = found
    old, new = before.words if before else "", after.words if after else ""
    if before and after and _ran_otherwise(before, after):
        old, new = f"{old} ({before.record.accel})", f"{new} ({after.record.accel})"
    why = matrix.reason(contract, after.record) if after else ""
    return Change(kind, worse, feature, mode, check, old, new, why)


def _kind(before: _Answer, after: _Answer) -> tuple[Kind, bool] | None:
    """Return the kind of difference between two results of a check, and whether it is worse."""
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
    """Compare durations of cells for which the noise is known.

    The start of a container and of a shared guest counts for the check that runs first, so only runs with the same
    checks in the mode are comparable. A cell is slower if its fastest new run took longer than its slowest old run, by
    more than the old runs differ from each other.

    Returns:
        The number of comparable cells, and the slower ones.
    """
    if old.host.identity != new.host.identity:
        return 0, []
    timed, slower = 0, []
    for (feature, mode), cell in new.cells.items():
        ran = _checks_by_run(new, mode)[cell.run]
        before, after = _seconds(old, cell, ran), _seconds(new, cell, ran)
        if len(before) < NOISE_RUNS or not all(one.verdict.decided for one in cell.records):
            continue
        timed += 1
        noise = max(before[-1] - before[0], NOISE_SHARE * before[-1], NOISE_SECONDS)
        if after[0] > before[-1] + noise:
            slower.append(Change(Kind.SLOWER, True, feature, mode, "", _range(before), _range(after)))
    return timed, slower


def _range(seconds: Sequence[float]) -> str:
    """Return sorted durations as text."""
    if len(seconds) == 1:
        return f"{seconds[0]:.1f} s"
    return f"{seconds[0]:.1f} to {seconds[-1]:.1f} s in {len(seconds)} runs"


def _seconds(host: HostMatrix, cell: Cell, ran: set[tuple[str, str]]) -> list[float]:
    """Return a cell's durations in a host's comparable runs, shortest first.

    Args:
        host: the host with the runs.
        cell: the cell to compare with.
        ran: the checks that its run had in its mode.
    """
    feature, mode = cell.records[0].feature, cell.records[0].mode
    runs = host.history.get((feature, mode), ())
    if not runs:
        return []
    newest, by_run = runs[-1].records[0], _checks_by_run(host, mode)
    return sorted(
        sum(record.seconds for record in one.records)
        for one in runs
        if by_run[one.run] == ran
        and (_verdicts(one), one.accels) == (_verdicts(cell), cell.accels)
        and (one.records[0].host, one.records[0].image.id) == (newest.host, newest.image.id)
    )


def _verdicts(cell: Cell) -> dict[str, Verdict]:
    return {record.check: record.verdict for record in cell.records}


def _checks_by_run(host: HostMatrix, mode: str) -> dict[str, set[tuple[str, str]]]:
    """Return the checks of each run in a mode."""
    checks: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in host.records:
        if record.mode == mode:
            checks[record.run].add((record.feature, record.check))
    return checks


# ---------------------------------------------------------------------------------------------- as text


def render(contract: Contract, compared: Sequence[Comparison]) -> str:
    """Return the differences as text, worst first; equal differences of a cell's checks are grouped."""
    return "\n\n".join("\n".join(_lines(contract, one)) for one in compared)


def _lines(contract: Contract, compared: Comparison) -> Iterator[str]:
    if compared.new is None:
        yield f"{compared.old}: no new records"
    elif compared.old is None:
        yield f"{compared.new}: no old records"
    else:
        yield f"{compared.new}:" + ("" if compared.changes else " all verdicts are the same")
    yield from (f"  {name}: {old or '(none)'} -> {new or '(none)'}" for name, (old, new) in compared.facts.items())
    titles = {feature.id: feature.title for feature in contract.features}
    for kind in Kind:
        together: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for change in compared.changes:
            if change.kind is kind:
                values = " -> ".join(filter(None, (change.before, change.after)))
                why = f": {' '.join(change.reason.split())}" if change.reason else ""
                together[change.mode, titles.get(change.feature, change.feature), values + why].append(change.check)
        if together:
            yield f"  {kind}" + (" (worse)" if any(one.worse for one in compared.changes if one.kind is kind) else "")
        for (mode, title, values), checks in together.items():
            yield f"    {mode} | {title} | {values}"
            yield from (f"      {check}" for check in checks if check)
    if compared.absent:
        number = len(compared.absent)
        yield f"  not in the new records, not compared: {number} {'cell' if number == 1 else 'cells'}"
    if compared.old and compared.new and not compared.timed:
        yield f"  durations are not compared: needs {NOISE_RUNS} old runs of the same checks on one host and image"
