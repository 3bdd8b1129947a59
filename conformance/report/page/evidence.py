"""Evidence in the report: checks, and the guests that they used."""

import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.model.verdict import Verdict

INDENT = re.compile("^(?:  )+", re.MULTILINE)

OWN = re.compile(r"[0-9a-f]{8,}|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
"""Parts of a definition that each guest has of its own: names, nonces, MAC addresses."""


@dataclass
class Boot:
    """A guest in the evidence.

    Attributes:
        id: the id of its section.
        domain: the domain's name.
        facts: firmware, accelerator and duration, in one line.
        xml: the domain's definition, indented by tabs; only the lines that differ if it is like another one.
        like: an earlier guest whose definition differs only in names and addresses; None if there is none.
        events: its report, one JSON object a line.
        screenshot: a WebP picture in base64; empty if there is none.
        places: ids and titles of the cells that used it.
    """

    id: str
    domain: str
    facts: str
    xml: str
    like: "Boot | None"
    events: str
    screenshot: str
    places: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """Checks of a cell with the same verdict and the same evidence.

    Attributes:
        records: their records.
        reason: why their verdict is not *works*; empty if the cell has this reason.
        source: the source of the known failure; empty if the checks are not known to fail.
        error: the full error, if it has more than the reason.
        seen: the other evidence, by name.
        boots: the guests that they used.
    """

    records: list[Record]
    reason: str
    source: str
    error: str
    seen: Mapping[str, str]
    boots: dict[str, Boot]

    @property
    def verdict(self) -> Verdict:
        """Return their verdict."""
        return self.records[0].verdict

    @property
    def cause(self) -> str:
        """Return the id of their cause; empty if none was recognised."""
        return self.records[0].cause

    @property
    def opens(self) -> bool:
        """Return whether they have evidence beside their guests."""
        return bool(self.reason or self.cause or self.error or self.seen)


def checks(
    contract: Contract, records: Sequence[Record], reasons: Sequence[str], used: Callable[[Record], Sequence[Boot]]
) -> list[Checks]:
    """Return the checks of a cell, those that need attention first.

    Args:
        contract: the contract.
        records: the records of the checks.
        reasons: the reasons of the cell's verdict.
        used: returns the guests of a record.
    """
    found: dict[tuple[object, ...], Checks] = {}
    for record in records:
        known = contract.known_failure(record.feature, record.mode, record.check)
        error = str(record.evidence.get("error", ""))
        made = Checks(
            records=[],
            reason="" if record.reason in reasons else record.reason,
            source=known.source if known else "",
            error=error if error.strip() != record.reason.strip() else "",
            seen={
                name: seen if isinstance(seen, str) else _json(seen)
                for name, seen in record.evidence.items()
                if name not in ("error", "guests")
            },
            boots={},
        )
        key = (record.verdict, record.reason, record.cause, made.source, made.error, *made.seen.items())
        same = found.setdefault(key, made)
        same.records.append(record)
        same.boots.update((boot.id, boot) for boot in used(record))
    return sorted(found.values(), key=lambda one: not one.verdict.bad)


class Boots:
    """The guests in one host's evidence, without duplicates: several checks can use one boot.

    Args:
        prefix: prefix of their sections' ids.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: dict[tuple[str, str, str], Boot] = {}
        self._shapes: dict[str, Boot] = {}

    @property
    def all(self) -> list[Boot]:
        """Return all guests."""
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
            like, own = self._compared(INDENT.sub(lambda found: "\t" * (len(found[0]) // 2), xml))
            boot = Boot(
                id=f"{self._prefix}.guest.{len(self._known)}",
                domain=domain,
                facts=", ".join(fact for fact in facts if fact),
                xml=own,
                like=like,
                events=events,
                screenshot=_webp(guest.get("screenshot")),
            )
            self._known[record.run, domain, xml] = boot
            if like is None:
                self._shapes[OWN.sub("", own)] = boot
        # Several checks use a persistent guest, and its report grows.
        boot.events = max(boot.events, events, key=len)
        return boot

    def _compared(self, xml: str) -> tuple[Boot | None, str]:
        """Return a guest with the same definition but for its own parts, and the lines that differ; else all."""
        like = self._shapes.get(OWN.sub("", xml))
        if like is None:
            return None, xml
        pairs = zip(like.xml.splitlines(), xml.splitlines(), strict=True)
        return like, "\n".join(line for other, line in pairs if line != other)


def _webp(kept: object) -> str:
    """Return a PNG in base64 as a smaller WebP picture without loss; empty if it is not a PNG."""
    made = io.BytesIO()
    try:
        png = base64.b64decode(kept, validate=True) if isinstance(kept, str) else b""
        Image.open(io.BytesIO(png), formats=["PNG"]).save(made, "WEBP", lossless=True, method=6)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return ""
    return base64.b64encode(made.getvalue()).decode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
