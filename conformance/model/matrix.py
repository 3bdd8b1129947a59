"""Cells: what all records together say of a feature in a mode on a host."""

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
    """That one host and image gave different answers when they were asked the same.

    Attributes:
        verdict: the best of the answers.
        times: in how many runs it was the answer of all checks that are not steady.
        runs: how many runs asked.
        notes: of each such check, how often it gave which answer, and why not always the best.
        others: the newest record of each answer that the run that is shown did not give.
        beside: what else is wrong in the cell, in that run, if anything.
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
    """One answer of the compatibility table.

    Attributes:
        verdict: the gravest of the feature's checks in the run that is shown.
        reasons: why it is not simply *works*, each once.
        day: of that run; none where nothing was recorded.
        run: that run's id.
        accels: how its guests ran.
        records: that run's, one of each check, in the order in which they were asked.
        flaky: whether other runs, asked the same, say otherwise.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    day: date | None = None
    run: str = ""
    accels: frozenset[str] = frozenset()
    records: tuple[Record, ...] = ()
    flaky: Flaky | None = None


@dataclass(frozen=True)
class HostMatrix:
    """All cells of one image on one host; the newest run that asked a cell decides it.

    Attributes:
        host: as its newest record describes it.
        image: likewise.
        newest_day: of the newest record.
        cells: by feature and mode.
        history: of each cell what its runs said, each alone, oldest first.
        records: all of them, oldest run first.
    """

    host: Host
    image: Image
    newest_day: date
    cells: dict[tuple[str, str], Cell]
    history: dict[tuple[str, str], tuple[Cell, ...]]
    records: tuple[Record, ...]

    def cell(self, feature: str, mode: str) -> Cell:
        """Return a cell; *not-run* where nothing was recorded."""
        return self.cells.get((feature, mode), Cell(Verdict.NOT_RUN))


def build(contract: Contract, records: Iterable[Record]) -> list[HostMatrix]:
    """Make one matrix for each host and image, from records in any order."""
    groups: dict[tuple[Identity, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.host.identity, record.image.tag].append(record)
    return [_host(contract, groups[key]) for key in sorted(groups)]


def _host(contract: Contract, records: Iterable[Record]) -> HostMatrix:
    records = sorted(records, key=lambda record: record.run)
    asked: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        asked.setdefault((record.feature, record.mode), {}).setdefault(record.run, []).append(record)
    newest = max(records, key=lambda record: (record.run, record.time))
    history = {place: tuple(_cell(contract, runs[run], {}) for run in sorted(runs)) for place, runs in asked.items()}
    return HostMatrix(
        host=newest.host,
        image=newest.image,
        newest_day=newest.time.date(),
        cells={place: _cell(contract, runs[max(runs)], runs) for place, runs in asked.items()},
        history=history,
        records=tuple(records),
    )


def _cell(contract: Contract, records: Sequence[Record], runs: Mapping[str, Sequence[Record]]) -> Cell:
    """Judge a cell by the records of one run, and say whether other runs contradict it."""
    last = latest(records)
    answers = {check: unsteady for check, one in last.items() if (unsteady := conflict(one, runs.values()))}
    steady = [one for check, one in last.items() if check not in answers or one.verdict is Verdict.ERROR]
    worst = gravest(one.verdict for one in steady)
    verdict = gravest(one.verdict for one in last.values())
    reasons = [reason(contract, one) for one in steady if one.verdict is worst]
    # Older records name no parameters: there a check was asked if any of its parameters was.
    missing = set(records[-1].checks) - {*last, *(check.partition("[")[0] for check in last)}
    if missing and not verdict.bad:
        # Part of an answer proves a failure, but never that all of it works.
        verdict, reasons = Verdict.NOT_RUN, [f"only in part: {', '.join(sorted(missing))} not run"]
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
    )


def latest(records: Iterable[Record]) -> dict[str, Record]:
    """Return what one run says of each check of a cell: a later record replaces an earlier one."""
    return {record.check: record for record in records}


def conflict(record: Record, runs: Iterable[Sequence[Record]]) -> list[Record]:
    """Return the answers of all runs that asked the same, if they are not all one verdict; else nothing.

    Args:
        record: the question, and one answer to it.
        runs: records of the same cell, run by run.
    """
    found = [one for run in runs if (one := latest(run).get(record.check)) and one.asks_the_same_as(record)]
    decided = [one for one in found if one.verdict.decided]
    return decided if len({one.verdict for one in decided}) > 1 else []


def best(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the best of some decided verdicts: what is counted of those that contradict each other."""
    return min(verdicts, key=_BEST_FIRST.index)


def _flaky(
    contract: Contract,
    last: Mapping[str, Record],
    answers: Mapping[str, Sequence[Record]],
    beside: Verdict | None,
) -> Flaky:
    by_run: dict[str, list[Verdict]] = defaultdict(list)
    for one in (one for given in answers.values() for one in given):
        by_run[one.run].append(one.verdict)
    wanted = best(verdict for verdicts in by_run.values() for verdict in verdicts)
    return Flaky(
        verdict=wanted,
        times=sum(gravest(verdicts) is wanted for verdicts in by_run.values()),
        runs=len(by_run),
        others=tuple(
            one
            for check, given in answers.items()
            for verdict, one in _newest(given).items()
            if verdict is not last[check].verdict
        ),
        notes=tuple(f"{check}: {_counts(contract, given)}" for check, given in answers.items()),
        beside=beside,
    )


def _newest(given: Iterable[Record]) -> dict[Verdict, Record]:
    """Return the newest record of each answer; they come oldest run first."""
    return {one.verdict: one for one in given}


def _counts(contract: Contract, given: Sequence[Record]) -> str:
    """Say how often which answer was given, and why; the newest reason of each."""
    counts = Counter(one.verdict for one in given)
    newest = {verdict: reason(contract, one) for verdict, one in _newest(given).items()}
    return ", ".join(
        f"{verdict.words} {counts[verdict]} of {len(given)}" + (f" ({newest[verdict]})" if newest[verdict] else "")
        for verdict in sorted(counts, key=_BEST_FIRST.index)
    )


def reason(contract: Contract, record: Record) -> str:
    """Say in one line why a verdict is not simply *works*."""
    cause = next((one for one in contract.causes if one.id == record.cause), None)
    if cause is None:
        return record.reason
    refused = next((one for one in record.evidence.get("refused", []) if cause.refuses(one)), "")
    return f"{cause.explanation}; the kernel's log: {refused}" if refused else cause.explanation
