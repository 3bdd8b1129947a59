"""Cells: what all records together say of a feature in a mode on a host."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from conformance.contract import Contract
from conformance.record import Host, Image, Record
from conformance.verdict import Verdict, gravest


@dataclass(frozen=True)
class Cell:
    """One answer of the compatibility table.

    Attributes:
        verdict: the gravest of the feature's checks in the run that is shown.
        reasons: why it is not simply *works*, each once.
        day: of that run; none where nothing was recorded.
        run: that run's id.
        accels: how its guests ran.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    day: date | None = None
    run: str = ""
    accels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HostMatrix:
    """All cells of one image on one host; the newest run that asked a cell decides it."""

    host: Host
    image: Image
    newest_day: date
    cells: dict[tuple[str, str], Cell]

    def cell(self, feature: str, mode: str) -> Cell:
        """Return a cell; *not-run* where nothing was recorded."""
        return self.cells.get((feature, mode), Cell(Verdict.NOT_RUN))


def build(contract: Contract, records: Iterable[Record]) -> list[HostMatrix]:
    """Make one matrix for each host and image, from records in any order."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.host.name, record.image.tag), []).append(record)
    return [_host(contract, groups[key]) for key in sorted(groups)]


def _host(contract: Contract, records: list[Record]) -> HostMatrix:
    asked: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        asked.setdefault((record.feature, record.mode), {}).setdefault(record.run, []).append(record)
    newest = max(records, key=lambda record: (record.run, record.time))
    cells = {place: _cell(contract, runs[max(runs)]) for place, runs in asked.items()}
    return HostMatrix(
        host=newest.host,
        image=newest.image,
        newest_day=newest.time.date(),
        cells=cells,
    )


def _cell(contract: Contract, records: list[Record]) -> Cell:
    """Judge a cell by the records of one run; a check's later record replaces its earlier one."""
    last = {record.check: record for record in records}
    verdict = gravest(record.verdict for record in last.values())
    missing = set(records[-1].checks) - {check.partition("[")[0] for check in last}
    reasons = [_reason(contract, record) for record in last.values() if record.verdict is verdict]
    if missing and not verdict.bad:
        # Part of an answer proves a failure, but never that all of it works.
        verdict, reasons = Verdict.NOT_RUN, [f"only in part: {', '.join(sorted(missing))} not run"]
    return Cell(
        verdict=verdict,
        reasons=tuple(dict.fromkeys(reason for reason in reasons if reason)),
        day=max(record.time for record in records).date(),
        run=records[-1].run,
        accels=frozenset(record.accel for record in last.values() if record.accel),
    )


def _reason(contract: Contract, record: Record) -> str:
    known = {cause.id: cause.explanation for cause in contract.causes}
    return known.get(record.cause, record.reason)
