"""The report: one HTML page that needs nothing beside itself, made of the contract and the records.

Whatever comes from records was written by guests, daemons and other machines: it is escaped, what a browser would take
for more than text is replaced, and the page forbids itself scripts and the network.
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

from conformance.model import mode
from conformance.model.contract import Contract, Feature, ModeClaims
from conformance.model.matrix import Cell, HostMatrix, build
from conformance.model.record import Record, names
from conformance.model.verdict import FLAKY, MEANINGS, Verdict
from conformance.report import diff, markdown
from conformance.report.diff import Comparison, Kind

HISTORY = 20
"""So many runs of a cell are listed."""

UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and what turns the direction of the text around it (Unicode, UAX #9)."""

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Boot:
    """A guest of the evidence.

    Attributes:
        id: of its section.
        domain: its name.
        facts: what is said of it in a line.
        xml: the domain's definition.
        events: what it reported, one JSON object a line.
        screenshot: a PNG in base64; empty where there is none.
        places: ids and names of the cells that it answered for.
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
    """What a run says of one check.

    Attributes:
        record: its record.
        source: who knows that it fails; empty where it is not known to.
        error: what ended it, where that says more than the reason does.
        seen: what else the evidence has, by its name.
        boots: the guests that were used.
    """

    record: Record
    source: str
    error: str
    seen: Mapping[str, str]
    boots: Sequence[Boot]


@dataclass(frozen=True)
class ModeCell:
    """A cell, and all that opens with it.

    Attributes:
        id: of its section.
        feature: what it is about.
        mode: in which mode.
        cell: what is shown.
        word: that, as people write it.
        beside: what else is wrong, likewise; empty unless it is flaky.
        style: the class that gives it its colour.
        reasons: why it is not simply *works*.
        changed: whether the newest run changed it.
        command: the container, as a ``docker run`` command.
        checks: what its run says.
        others: where it is flaky, what other runs say.
        history: what its runs said, the newest first.
        older: how many more there are.
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
        """Say whether somebody has to look at it."""
        return self.cell.flaky is not None or self.cell.verdict.bad

    @property
    def seconds(self) -> float:
        """Return how long its checks took."""
        return sum(record.seconds for record in self.cell.records)


@dataclass(frozen=True)
class Sheet:
    """One host's part of the page.

    Attributes:
        id: of its section.
        name: what the host is called.
        matrix: its cells.
        fingerprint: where it was measured, in a line.
        image: what was judged, likewise.
        runs: how many runs there are.
        before: when the last run before the newest one was; empty where that is the first.
        changed: what the newest run changed.
        rows: the cells, by feature.
        boots: the guests of the evidence.
        counts: how many cells say what.
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
    """Write the page; the same contract and records make the same bytes."""
    hosts = build(contract, records)
    called = names(host.host for host in hosts)
    sheets = [_sheet(contract, host, f"h{number}", called[host.host.identity]) for number, host in enumerate(hosts)]
    styles = [*Verdict, "flaky"]
    templates = _templates()
    # Nothing goes into it but numbers and verdicts: escaping for HTML does not make text safe in a style sheet.
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


# ---------------------------------------------------------------------------------------- what the page says


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
    """Compare the newest run with all that was known before it; what it did not ask has not changed."""
    newest = host.records[-1].run
    old = [record for record in host.records if record.run != newest]
    if not old:
        return "", None
    (found,) = diff.compare(contract, old, [record for record in host.records if record.run == newest])
    asked = {(record.feature, record.mode) for record in host.records if record.run == newest}
    kept = tuple(one for one in found.changes if one.kind is not Kind.REMOVED or (one.feature, one.mode) in asked)
    return when(old[-1]), Comparison(found.old, found.new, found.facts, kept, found.timed)


def when(record: Record) -> str:
    """Say when something was recorded."""
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
        [_check(contract, record, boots.of(record, name, f"{feature.title}, {claims.id}")) for record in records]
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
        command=mode.shell(mode.from_contract(contract, claims.id).docker_run(host.image.tag, restart=False)),
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
    """The guests of one host's evidence, each once: a boot answers for several checks.

    Args:
        prefix: of their sections' ids.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: dict[tuple[str, str, str], Boot] = {}

    @property
    def all(self) -> list[Boot]:
        return list(self._known.values())

    def of(self, record: Record, place: str, title: str) -> list[Boot]:
        """Return the guests that a record names, and note which cell they answered for."""
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
        # One that stays is asked again and again, and its report grows.
        boot.events = max(boot.events, events, key=len)
        return boot


def _png(kept: object) -> str:
    """Return a screenshot as it goes into the page; nothing where it is none."""
    try:
        picture = base64.b64decode(kept, validate=True) if isinstance(kept, str) else b""
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(picture).decode() if picture.startswith(PNG) else ""


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
