"""The report: one self-contained HTML page, made from the contract and the records.

Records contain text from guests, daemons and other machines. The page escapes it, replaces control characters, and
forbids scripts and network access.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from conformance.model import commands, mode
from conformance.model.contract import Contract, Feature, ModeClaims
from conformance.model.matrix import Cell, HostMatrix, build
from conformance.model.record import Record, names
from conformance.model.verdict import FLAKY, MEANINGS, Verdict
from conformance.report import diff, markdown
from conformance.report.diff import Comparison, Kind

HISTORY = 20
"""The number of runs that a cell lists."""

UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and those that change the direction of text (Unicode, UAX #9)."""

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Boot:
    """A guest in the evidence.

    Attributes:
        id: the id of its section.
        domain: the domain's name.
        facts: firmware, accelerator and duration, in one line.
        xml: the domain's definition.
        events: its report, one JSON object a line.
        screenshot: a PNG in base64; empty if there is none.
        places: ids and titles of the cells that used it.
    """

    id: str
    domain: str
    facts: str
    xml: str
    events: str
    screenshot: str
    places: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check of a cell.

    Attributes:
        record: its record.
        source: the source of the known failure; empty if the check is not known to fail.
        error: the full error, if it has more than the reason.
        seen: the other evidence, by name.
        boots: the guests that it used.
    """

    record: Record
    source: str
    error: str
    seen: Mapping[str, str]
    boots: Sequence[Boot]


@dataclass(frozen=True)
class ModeCell:
    """A cell and the section that it opens.

    Attributes:
        id: the id of its section.
        feature: the cell's feature.
        mode: the cell's mode.
        cell: the shown cell.
        word: its verdict as text.
        beside: for a flaky cell, the bad verdict of its steady checks as text; empty if none.
        style: its CSS class.
        reasons: why the verdict is not *works*.
        changed: whether the newest run changed it.
        command: the container as a ``docker run`` command.
        checks: the checks of the shown run.
        others: for a flaky cell, checks of other runs with different verdicts.
        history: the cell in each of its runs, newest first.
        older: the number of runs that are not listed.
    """

    id: str
    feature: Feature
    mode: ModeClaims
    cell: Cell
    word: str
    beside: str
    style: str
    reasons: Sequence[str]
    changed: bool
    command: str
    checks: Sequence[Check]
    others: Sequence[Check]
    history: Sequence[Cell]
    older: int

    @property
    def bad(self) -> bool:
        """Return whether this needs attention."""
        return self.cell.flaky is not None or self.cell.verdict.bad

    @property
    def seconds(self) -> float:
        """Return the duration of its checks."""
        return sum(record.seconds for record in self.cell.records)


@dataclass(frozen=True)
class Sheet:
    """One host's part of the page.

    Attributes:
        id: the id of its section.
        name: the host's name.
        matrix: its cells.
        fingerprint: the host's facts in one line.
        image: the image in one line.
        runs: the number of runs.
        before: the time of the run before the newest one; empty if there is none.
        changed: the changes by the newest run.
        rows: the cells, by feature.
        boots: the guests in the evidence.
        counts: the number of cells with each verdict.
    """

    id: str
    name: str
    matrix: HostMatrix
    fingerprint: str
    image: str
    runs: int
    before: str
    changed: Comparison | None
    rows: Sequence[tuple[Feature, Sequence[ModeCell]]]
    boots: Sequence[Boot]
    counts: Mapping[str, int]

    @property
    def places(self) -> Iterator[ModeCell]:
        """Return all cells."""
        return (place for _, row in self.rows for place in row)


def render(contract: Contract, records: Iterable[Record]) -> str:
    """Return the page; the same contract and records make the same bytes."""
    hosts = build(contract, records)
    called = names(host.host for host in hosts)
    sheets = [_sheet(contract, host, f"h{number}", called[host.host.identity]) for number, host in enumerate(hosts)]
    styles = [*Verdict, "flaky"]
    templates = _templates()
    # Only numbers and verdicts go into it: escaping for HTML does not make text safe in a style sheet.
    style = templates.get_template("page.css.jinja").render(styles=styles, modes=len(contract.modes), hosts=len(sheets))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return templates.get_template("page.html.jinja").render(
        contract=contract,
        sheets=sheets,
        styles=[style for style in styles if any(style in sheet.counts for sheet in sheets)],
        meanings={verdict.words: meaning for verdict, meaning in MEANINGS.items()} | {"flaky": FLAKY},
        style=Markup(style),  # noqa: S704  - our own, see above
        digest=digest,
        Kind=Kind,
    )


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("conformance.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    return UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value


# ---------------------------------------------------------------------------------------- contents


def _sheet(contract: Contract, host: HostMatrix, section: str, name: str) -> Sheet:
    before, changed = _since(contract, host)
    boots = _Boots(section)
    touched = {(change.feature, change.mode) for change in changed.changes} if changed else set()
    rows = [
        (
            feature,
            [
                _place(contract, host, feature, claims, f"{section}-f{row}-m{column}", touched, boots)
                for column, claims in enumerate(contract.modes)
            ],
        )
        for row, feature in enumerate(contract.features)
    ]
    counts: dict[str, int] = {}
    for place in (place for _, row in rows for place in row):
        counts[place.style] = counts.get(place.style, 0) + 1
    return Sheet(
        id=section,
        name=name,
        matrix=host,
        fingerprint=markdown.fingerprint(host.host),
        image=f"{host.image.tag} {markdown.contents(host.image)}".rstrip(),
        runs=len({record.run for record in host.records}),
        before=before,
        changed=changed,
        rows=rows,
        boots=boots.all,
        counts=counts,
    )


def _since(contract: Contract, host: HostMatrix) -> tuple[str, Comparison | None]:
    """Compare the newest run with all earlier ones; cells that it did not test are unchanged."""
    newest = host.records[-1].run
    old = [record for record in host.records if record.run != newest]
    if not old:
        return "", None
    (found,) = diff.compare(contract, old, [record for record in host.records if record.run == newest])
    tested = {(record.feature, record.mode) for record in host.records if record.run == newest}
    kept = tuple(one for one in found.changes if one.kind is not Kind.REMOVED or (one.feature, one.mode) in tested)
    return when(old[-1]), Comparison(found.old, found.new, found.facts, kept, found.timed)


def when(record: Record) -> str:
    """Return the time of a record, in UTC."""
    return f"{record.time:%Y-%m-%d %H:%M} UTC"


def _place(
    contract: Contract,
    host: HostMatrix,
    feature: Feature,
    claims: ModeClaims,
    name: str,
    touched: set[tuple[str, str]],
    boots: "_Boots",
) -> ModeCell:
    cell = host.cell(feature.id, claims.id)
    history = host.history.get((feature.id, claims.id), ())[::-1]
    beside = cell.flaky.beside.words if cell.flaky and cell.flaky.beside else ""
    reasons = cell.reasons or ((feature.unasked,) if not cell.records and feature.unasked else ())
    checks, others = (
        [_check(contract, record, boots.of_record(record, name, f"{feature.title}, {claims.id}")) for record in records]
        for records in (cell.records, cell.flaky.others if cell.flaky else ())
    )
    return ModeCell(
        id=name,
        feature=feature,
        mode=claims,
        cell=cell,
        word=f"flaky: {cell.flaky}" if cell.flaky else cell.verdict.words,
        beside=beside,
        style="flaky" if cell.flaky else cell.verdict,
        reasons=reasons,
        changed=(feature.id, claims.id) in touched,
        command=commands.shell(
            commands.docker_run(mode.from_contract(contract, claims.id), host.image.tag, restart=False)
        ),
        checks=checks,
        others=others,
        history=history[:HISTORY],
        older=len(history[HISTORY:]),
    )


def _check(contract: Contract, record: Record, boots: Sequence[Boot]) -> Check:
    error = str(record.evidence.get("error", ""))
    known = contract.known_failure(record.feature, record.mode, record.check)
    return Check(
        record=record,
        source=known.source if known else "",
        error=error if error.strip() != record.reason.strip() else "",
        seen={
            name: seen if isinstance(seen, str) else _json(seen)
            for name, seen in record.evidence.items()
            if name not in ("error", "guests")
        },
        boots=boots,
    )


class _Boots:
    """The guests in one host's evidence, without duplicates: several checks can use one boot.

    Args:
        prefix: prefix of their sections' ids.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: dict[tuple[str, str, str], Boot] = {}

    @property
    def all(self) -> list[Boot]:
        return list(self._known.values())

    def of_record(self, record: Record, place: str, title: str) -> list[Boot]:
        """Return the guests of a record, and add the cell to the places that used them."""
        guests = record.evidence.get("guests")
        found = (
            [self._boot(record, guest) for guest in guests if isinstance(guest, dict)]
            if isinstance(guests, list)
            else []
        )
        for boot in found:
            boot.places[place] = title
        return list({boot.id: boot for boot in found}.values())

    def _boot(self, record: Record, guest: Mapping[str, Any]) -> Boot:
        domain, xml = str(guest.get("domain", "")), str(guest.get("xml", ""))
        report = guest.get("report")
        events = "\n".join(_json(event) for event in report) if isinstance(report, list) else ""
        boot = self._known.get((record.run, domain, xml))
        if boot is None:
            accel = {"kvm": "under KVM", "tcg": "under emulation"}.get(record.accel or "", "")
            facts = [str(guest.get("firmware", "")).upper(), accel, f"{guest.get('seconds', 0)} s"]
            boot = Boot(
                id=f"{self._prefix}-g{len(self._known)}",
                domain=domain,
                facts=", ".join(fact for fact in facts if fact),
                xml=xml,
                events=events,
                screenshot=_png(guest.get("screenshot")),
            )
            self._known[record.run, domain, xml] = boot
        # Several checks use a persistent guest, and its report grows.
        boot.events = max(boot.events, events, key=len)
        return boot


def _png(kept: object) -> str:
    """Return a screenshot in base64 for the page; empty if it is not a PNG."""
    try:
        picture = base64.b64decode(kept, validate=True) if isinstance(kept, str) else b""
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(picture).decode() if picture.startswith(PNG) else ""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
