"""The cells of the report: a column for each host and mode, and the names by which links find them."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from conformance.model import commands, mode
from conformance.model.contract import Contract, Feature, ModeClaims
from conformance.model.matrix import Cell, HostMatrix
from conformance.model.record import Record, names
from conformance.model.verdict import Verdict
from conformance.report import diff, markdown
from conformance.report.diff import Comparison, Kind
from conformance.report.page.evidence import Boot, Boots, Checks, checks

HISTORY = 20
"""The number of runs that a cell lists."""

FLAKY = "flaky"
"""The style of cells whose runs disagree; all other styles are verdicts."""

STYLES: tuple[str, ...] = (
    Verdict.FAILS, Verdict.ERROR, FLAKY, Verdict.FIXED, Verdict.KNOWN_FAILURE, Verdict.WORKS, Verdict.UNSUPPORTED,
    Verdict.NOT_RUN,
)  # fmt: skip
"""The styles of cells, those that need attention first."""


@dataclass(frozen=True)
class ModeCell:
    """A feature in a mode on a host.

    Attributes:
        id: its name in links: host, mode and feature.
        feature: the cell's feature.
        cell: the shown cell.
        style: its CSS class, one of :data:`STYLES`.
        word: its verdict as text.
        reasons: why the verdict is not *works*.
        changed: whether the newest run changed it.
        checks: the checks of the shown run.
        others: for a flaky cell, checks of other runs with different verdicts.
        history: the cell in each of its runs, newest first; runs in a row with the same verdict are together.
        older: the number of runs that are not listed.
    """

    id: str
    feature: Feature
    cell: Cell
    style: str
    word: str
    reasons: Sequence[str]
    changed: bool
    checks: Sequence[Checks]
    others: Sequence[Checks]
    history: Sequence[tuple[Verdict, Sequence[Cell]]]
    older: int

    @property
    def bad(self) -> bool:
        """Return whether this needs attention."""
        return self.cell.flaky is not None or self.cell.verdict.bad

    @property
    def filters(self) -> Sequence[str]:
        """Return the filters of the table that show it; they are its CSS classes too."""
        return [self.style, *(["bad"] if self.bad else []), *(["changed"] if self.changed else [])]

    @property
    def opens(self) -> bool:
        """Return whether there is more to it than its reasons; else it has no section, and a line of its mode's."""
        alone = self.cell.verdict is Verdict.UNSUPPORTED and not any(one.opens or one.boots for one in self.checks)
        return bool(self.checks) and not alone

    @property
    def seconds(self) -> float:
        """Return the duration of its checks."""
        return sum(record.seconds for record in self.cell.records)


@dataclass(frozen=True)
class Column:
    """A mode on a host.

    Attributes:
        id: its name in links: host and mode.
        host: the host's name.
        host_number: the host's place on the page.
        mode: the mode.
        mode_number: the mode's place in the contract.
        recommended: whether the contract recommends the mode for this host.
        command: the container as a ``docker run`` command.
        cells: a cell for each feature of the contract.
    """

    id: str
    host: str
    host_number: int
    mode: ModeClaims
    mode_number: int
    recommended: bool
    command: str
    cells: Sequence[ModeCell]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Return the number of cells of each style, in the order of the styles."""
        counted = Counter(place.style for place in self.cells)
        return {style: counted[style] for style in STYLES if counted[style]}

    def shows(self, name: str) -> bool:
        """Return whether a filter of the table shows any of its cells: a style, ``bad`` or ``changed``."""
        return any(name in place.filters for place in self.cells)

    @property
    def tested(self) -> bool:
        """Return whether there is more to it than the reason why it was not tested."""
        return not self.counts.keys() <= {Verdict.UNSUPPORTED, Verdict.NOT_RUN}

    @property
    def recorded(self) -> bool:
        """Return whether any of its cells has records."""
        return any(place.cell.records for place in self.cells)

    @property
    def days(self) -> Sequence[str]:
        """Return the first and the last day of its records; one day if they are the same."""
        days = sorted({str(place.cell.day) for place in self.cells if place.cell.day})
        return list(dict.fromkeys((*days[:1], *days[-1:])))


@dataclass(frozen=True)
class Run:
    """A run on a host.

    Attributes:
        last: its last record, with the host and the image.
        checks: the number of its records.
    """

    last: Record
    checks: int


@dataclass(frozen=True)
class Sheet:
    """One host's part of the page.

    Attributes:
        id: its name in links.
        name: the host's name.
        fingerprint: the host's facts in one line.
        image: the image in one line.
        day: the day of the newest record.
        runs: its runs, newest first.
        before: the time of the run before the newest one; empty if there is none.
        changed: the changes by the newest run.
        columns: its modes, the recommended one first.
        boots: the guests in the evidence.
    """

    id: str
    name: str
    fingerprint: str
    image: str
    day: str
    runs: Sequence[Run]
    before: str
    changed: Comparison | None
    columns: Sequence[Column]
    boots: Sequence[Boot]

    @cached_property
    def places(self) -> Mapping[tuple[str, str], ModeCell]:
        """Return all cells, by feature and mode."""
        return {(place.feature.id, column.mode.id): place for column in self.columns for place in column.cells}

    def column(self, mode_id: str) -> Column:
        """Return the column of a mode."""
        return next(column for column in self.columns if column.mode.id == mode_id)


def sheets(contract: Contract, hosts: Sequence[HostMatrix]) -> list[Sheet]:
    """Return a sheet for each host; hosts with the most verdicts come first."""
    called = _names(hosts)
    ordered = sorted(hosts, key=lambda host: -sum(cell.verdict.decided for cell in host.cells.values()))
    return [_sheet(contract, host, number, called[id(host)]) for number, host in enumerate(ordered)]


def _names(hosts: Sequence[HostMatrix]) -> dict[int, str]:
    """Return each host's name; with the image's tag if the host tested several images."""
    called = names(host.host for host in hosts)
    tested = Counter(host.host.identity for host in hosts)
    return {
        id(host): called[host.host.identity] + (f" {host.image.tag}" if tested[host.host.identity] > 1 else "")
        for host in hosts
    }


def _sheet(contract: Contract, host: HostMatrix, number: int, name: str) -> Sheet:
    before, changed = _since(contract, host)
    section = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    boots = Boots(section)
    touched = {(change.feature, change.mode) for change in changed.changes} if changed else set()
    advice = contract.recommendation(host.host.security)
    recommended = advice.mode if advice else ""
    columns = [
        Column(
            id=f"{section}.{claims.id}",
            host=name,
            host_number=number,
            mode=claims,
            mode_number=place,
            recommended=claims.id == recommended,
            command=commands.shell(
                commands.docker_run(mode.from_contract(contract, claims.id), host.image.tag, restart=False)
            ),
            cells=[
                _place(contract, host, feature, claims, f"{section}.{claims.id}.{feature.id}", touched, boots)
                for feature in contract.features
            ],
        )
        for place, claims in enumerate(contract.modes)
    ]
    return Sheet(
        id=section,
        name=name,
        fingerprint=markdown.fingerprint(host.host),
        image=f"{host.image.tag} {markdown.contents(host.image)}".rstrip(),
        day=host.newest_day.isoformat(),
        runs=_runs(host),
        before=before,
        changed=changed,
        columns=sorted(columns, key=lambda column: not column.recommended),
        boots=boots.all,
    )


def _runs(host: HostMatrix) -> list[Run]:
    counted = Counter(record.run for record in host.records)
    last = {record.run: record for record in host.records}
    return [Run(record, counted[run]) for run, record in reversed(last.items())]


def _since(contract: Contract, host: HostMatrix) -> tuple[str, Comparison | None]:
    """Compare the newest run with all earlier ones; cells that it did not test are unchanged."""
    newest = host.records[-1].run
    old = [record for record in host.records if record.run != newest]
    if not old:
        return "", None
    (found,) = diff.compare(contract, old, [record for record in host.records if record.run == newest])
    tested = {(record.feature, record.mode) for record in host.records if record.run == newest}
    kept = tuple(one for one in found.changes if one.kind is not Kind.REMOVED or (one.feature, one.mode) in tested)
    return f"{old[-1].time:%Y-%m-%d %H:%M} UTC", Comparison(found.old, found.new, found.facts, kept, found.timed)


def _place(
    contract: Contract,
    host: HostMatrix,
    feature: Feature,
    claims: ModeClaims,
    name: str,
    touched: set[tuple[str, str]],
    boots: Boots,
) -> ModeCell:
    cell = host.cell(feature.id, claims.id)
    history = host.history.get((feature.id, claims.id), ())[::-1]
    reasons = cell.reasons or ((feature.unasked,) if not cell.records and feature.unasked else ())

    def used(record: Record) -> list[Boot]:
        return boots.of_record(record, name, f"{feature.title}, {claims.id}")

    return ModeCell(
        id=name,
        feature=feature,
        cell=cell,
        style=FLAKY if cell.flaky else cell.verdict,
        word=_word(cell),
        reasons=reasons,
        changed=(feature.id, claims.id) in touched,
        checks=checks(contract, cell.records, reasons, used),
        others=checks(contract, cell.flaky.others if cell.flaky else (), (), used),
        history=[
            (verdict, list(past))
            for verdict, past in itertools.groupby(history[:HISTORY], key=lambda past: past.verdict)
        ],
        older=len(history[HISTORY:]),
    )


def _word(cell: Cell) -> str:
    """Return a cell's verdict as text; a flaky cell's with the bad verdict of its steady checks."""
    if cell.flaky is None:
        return cell.verdict.words
    beside = f"{cell.flaky.beside.words}; " if cell.flaky.beside else ""
    return f"{beside}flaky: {cell.flaky}"
