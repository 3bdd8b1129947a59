"""Cells: the verdict of all records on a feature in a mode on a host."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from conformance.model.contract import Contract
from conformance.model.record import Host, Identity, Image, Record
from conformance.model.verdict import Verdict, gravest

_BEST_FIRST = (Verdict.WORKS, Verdict.KNOWN_FAILURE, Verdict.FIXED, Verdict.FAILS)


@dataclass(frozen=True)
class Flaky:
    """Identical runs on one host and image that disagree.

    Attributes:
        verdict: the best verdict.
        times: the number of runs in which all unsteady checks had the best verdict.
        runs: the number of runs.
        notes: for each unsteady check, the count of each verdict, with the reasons.
        others: the newest record of each verdict that differs from the shown run's.
        beside: the worst verdict of the cell's steady checks, if it needs attention.
    """

    verdict: Verdict
    times: int
    runs: int
    notes: tuple[str, ...]
    others: tuple[Record, ...]
    beside: Verdict | None = None

    def __str__(self) -> str:
        return f"{self.verdict.words} {self.times} of {self.runs}"


@dataclass(frozen=True)
class Cell:
    """One cell of the compatibility table.

    Attributes:
        verdict: the gravest verdict of the feature's checks in the shown run.
        reasons: why the verdict is not *works*, without duplicates.
        day: the day of that run; None if there are no records.
        run: that run's id.
        accels: how its guests ran.
        records: its newest record of each check, in the order of the checks.
        flaky: the disagreement of identical runs, if there is one.
        incomplete: whether some checks are missing, so that the others prove nothing.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    day: date | None = None
    run: str = ""
    accels: frozenset[str] = frozenset()
    records: tuple[Record, ...] = ()
    flaky: Flaky | None = None
    incomplete: bool = False


@dataclass(frozen=True)
class HostMatrix:
    """All cells of one image on one host.

    The newest run with records of a cell decides it; an incomplete one, such as a smoke run, only if there is no other.

    Attributes:
        host: the host in the newest record.
        image: the image in the newest record.
        newest_day: the day of the newest record.
        cells: by feature and mode.
        history: for each cell, the cell that each run alone would make, oldest run first.
        records: all records, oldest run first.
    """

    host: Host
    image: Image
    newest_day: date
    cells: dict[tuple[str, str], Cell]
    history: dict[tuple[str, str], tuple[Cell, ...]]
    records: tuple[Record, ...]

    def cell(self, feature: str, mode: str) -> Cell:
        """Return a cell; *not-run* if it has no records."""
        return self.cells.get((feature, mode), Cell(Verdict.NOT_RUN))


def build(contract: Contract, records: Iterable[Record]) -> list[HostMatrix]:
    """Make one matrix for each host and image, from records in any order."""
    groups: dict[tuple[Identity, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.host.identity, record.image.tag].append(record)
    return [_host(contract, groups[key]) for key in sorted(groups)]


def _host(contract: Contract, records: Iterable[Record]) -> HostMatrix:
    records = sorted(records, key=lambda record: record.run)
    by_cell: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        by_cell.setdefault((record.feature, record.mode), {}).setdefault(record.run, []).append(record)
    newest = max(records, key=lambda record: (record.run, record.time))
    history = {place: tuple(_cell(contract, runs[run], {}) for run in sorted(runs)) for place, runs in by_cell.items()}
    return HostMatrix(
        host=newest.host,
        image=newest.image,
        newest_day=newest.time.date(),
        cells={place: _cell(contract, _deciding(history[place], runs), runs) for place, runs in by_cell.items()},
        history=history,
        records=tuple(records),
    )


def _deciding(cells: Iterable[Cell], by_run: Mapping[str, Sequence[Record]]) -> Sequence[Record]:
    """Return the records that decide a cell.

    Args:
        cells: the cell in each of its runs.
        by_run: its records by run.
    """
    complete = {cell.run for cell in cells if not cell.incomplete}
    runs = {run: records for run, records in by_run.items() if run in complete} or by_run
    return runs[max(runs)]


def _cell(contract: Contract, records: Sequence[Record], runs: Mapping[str, Sequence[Record]]) -> Cell:
    """Return a cell from the records of one run, marked as flaky if other runs contradict it."""
    last = latest(records)
    answers = {check: unsteady for check, one in last.items() if (unsteady := conflict(one, runs.values()))}
    steady = [one for check, one in last.items() if check not in answers or one.verdict is Verdict.ERROR]
    worst = gravest(one.verdict for one in steady)
    verdict = gravest(one.verdict for one in last.values())
    reasons = [reason(contract, one) for one in steady if one.verdict is worst]
    # Older records name no parameters: there a check ran if any of its parameters did.
    missing = set(records[-1].checks) - {*last, *(check.partition("[")[0] for check in last)}
    incomplete = bool(missing) and not verdict.bad
    if incomplete:
        # A part of the checks can prove a failure, but never that the feature works.
        verdict, reasons = Verdict.NOT_RUN, [f"incomplete: {', '.join(sorted(missing))} did not run"]
    flaky = _flaky(contract, last, answers, worst if worst.bad else None) if answers else None
    reasons = [*(flaky.notes if flaky else ()), *reasons]
    return Cell(
        verdict=verdict,
        reasons=tuple(dict.fromkeys(reason for reason in reasons if reason)),
        day=max(record.time for record in records).date(),
        run=records[-1].run,
        accels=frozenset(record.accel for record in last.values() if record.accel),
        records=tuple(last.values()),
        flaky=flaky,
        incomplete=incomplete,
    )


def latest(records: Iterable[Record]) -> dict[str, Record]:
    """Return one run's newest record of each check of a cell."""
    return {record.check: record for record in records}


def conflict(record: Record, runs: Iterable[Sequence[Record]]) -> list[Record]:
    """Return the decided records of all identical runs of a check, if their verdicts differ; else nothing.

    Args:
        record: a record of the check.
        runs: records of the same cell, run by run.
    """
    found = [one for run in runs if (one := latest(run).get(record.check)) and one.asks_the_same_as(record)]
    decided = [one for one in found if one.verdict.decided]
    return decided if len({one.verdict for one in decided}) > 1 else []


def best(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the best of some decided verdicts."""
    return min(verdicts, key=_BEST_FIRST.index)


def _flaky(
    contract: Contract,
    last: Mapping[str, Record],
    answers: Mapping[str, Sequence[Record]],
    beside: Verdict | None,
) -> Flaky:
    by_run: dict[str, list[Verdict]] = defaultdict(list)
    for one in itertools.chain.from_iterable(answers.values()):
        by_run[one.run].append(one.verdict)
    wanted = best(verdict for verdicts in by_run.values() for verdict in verdicts)
    return Flaky(
        verdict=wanted,
        times=sum(gravest(verdicts) is wanted for verdicts in by_run.values()),
        runs=len(by_run),
        others=tuple(
            one
            for check, found in answers.items()
            for verdict, one in _newest(found).items()
            if verdict is not last[check].verdict
        ),
        notes=tuple(f"{check}: {_counts(contract, found)}" for check, found in answers.items()),
        beside=beside,
    )


def _newest(records: Iterable[Record]) -> dict[Verdict, Record]:
    """Return the newest record of each verdict; the records come oldest run first."""
    return {one.verdict: one for one in records}


def _counts(contract: Contract, records: Sequence[Record]) -> str:
    """Return the count of each verdict, with its newest reason, in one line."""
    counts = Counter(one.verdict for one in records)
    newest = {verdict: reason(contract, one) for verdict, one in _newest(records).items()}
    return ", ".join(
        f"{verdict.words} {counts[verdict]} of {len(records)}" + (f" ({newest[verdict]})" if newest[verdict] else "")
        for verdict in sorted(counts, key=_BEST_FIRST.index)
    )


def reason(contract: Contract, record: Record) -> str:
    """Return in one line why a verdict is not *works*; empty if it is."""
    cause = next((one for one in contract.causes if one.id == record.cause), None)
    if cause is None:
        return record.reason
    refused = next((one for one in record.evidence.get("refused", []) if cause.refuses(one)), "")
    return f"{cause.explanation}; the kernel's log: {refused}" if refused else cause.explanation
