"""The report: one self-contained HTML page, made from the contract and the records.

Records contain text from guests, daemons and other machines. The page escapes it, replaces control characters, and
forbids scripts and network access.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from conformance.model.contract import Contract
from conformance.model.matrix import build
from conformance.model.record import Record
from conformance.model.verdict import FLAKY, MEANINGS
from conformance.report.diff import Kind
from conformance.report.page import cells, summary

UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and those that change the direction of text (Unicode, UAX #9)."""


def render(contract: Contract, records: Iterable[Record]) -> str:
    """Return the page; the same contract and records make the same bytes."""
    sheets = cells.sheets(contract, build(contract, records))
    columns = [column for sheet in sheets for column in sheet.columns if column.tested]
    recommended = {column.mode.id for sheet in sheets for column in sheet.columns if column.recommended}
    tested = {column.mode.id for column in columns}
    modes = sorted(contract.modes, key=lambda claims: claims.id not in recommended)
    styles = [style for style in cells.STYLES if any(style in column.counts for column in columns)]
    templates = _templates()
    # Only numbers and verdicts go into it: escaping for HTML does not make text safe in a style sheet.
    style = templates.get_template("page.css.jinja").render(
        styles=cells.STYLES,
        filters=[*styles, "bad", "changed"],
        hosts=len(sheets),
        modes=len(contract.modes),
        columns=columns,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return templates.get_template("page.html.jinja").render(
        contract=contract,
        sheets=sheets,
        columns=columns,
        modes=[claims for claims in modes if claims.id in tested | recommended],
        untested=[claims for claims in modes if claims.id not in tested | recommended],
        chosen={column.mode_number: column.mode for column in columns},
        styles=styles,
        failures=summary.failures(contract, sheets),
        known=summary.known_failures(contract, sheets),
        groups=partial(summary.groups, contract),
        bad=sum(place.bad for sheet in sheets for place in sheet.places.values()),
        meanings={verdict.words: meaning for verdict, meaning in MEANINGS.items()} | {"flaky": FLAKY},
        style=Markup(style),  # noqa: S704  - our own, see above
        digest=digest,
        Kind=Kind,
    )


def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("conformance.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["content"] = _content
    return made


def _shown(value: Any) -> Any:
    return UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value


def _content(text: str) -> Markup:
    """Escape text for the content of an element, where quotes need no escape: long evidence is full of them."""
    return Markup(_shown(str(text)).replace("&", "&amp;").replace("<", "&lt;"))  # noqa: S704  - escaped here
