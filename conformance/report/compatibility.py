"""The compatibility matrix: a section for each host, a column for each distinct set of verdicts, notes with reasons."""

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.errors import HarnessError
from conformance.model.contract import Contract, Feature
from conformance.model.matrix import Cell, HostMatrix
from conformance.model.record import names
from conformance.model.verdict import Verdict
from conformance.report.markdown import SYMBOLS, image, literal, numbered, table

ACCELS = {
    frozenset({"kvm"}): "under KVM",
    frozenset({"tcg"}): "under emulation (TCG)",
    frozenset({"kvm", "tcg"}): "partly under KVM, partly under emulation (TCG)",
}

TOLD = (Verdict.WORKS, Verdict.FAILS, Verdict.KNOWN_FAILURE, Verdict.FIXED, Verdict.ERROR)
"""Verdicts that make a column of a mode; a mode with none of them is one line."""


@dataclass(frozen=True)
class Column:
    """Modes whose cells are the same on a host.

    Attributes:
        letter: the head of the column.
        modes: their ids; the first one is shown, the others are the same.
        days: the days of their records, as text.
    """

    letter: str
    modes: tuple[str, ...]
    days: str


def matrices(contract: Contract, hosts: Sequence[HostMatrix]) -> str:
    """Write a section for each host; hosts with the most verdicts come first."""
    if not hosts:
        return "Nothing has been recorded yet."
    called = names(host.host for host in hosts)
    ordered = sorted(hosts, key=lambda host: -sum(cell.verdict in TOLD for cell in host.cells.values()))
    return "\n\n".join(_section(contract, host, called[host.host.identity]) for host in ordered)


def symbol(cell: Cell) -> str:
    """Return a cell's verdict as a table shows it."""
    if cell.flaky is None:
        return SYMBOLS[cell.verdict]
    beside = f"{SYMBOLS[cell.flaky.beside]}; " if cell.flaky.beside else ""
    return f"{beside}**flaky**: {cell.flaky}"


def anchor(name: str) -> str:
    """Return the anchor that GitHub gives to the heading of a host's section."""
    return re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")


def recommended(contract: Contract, host: HostMatrix) -> str:
    """Return the id of the mode that the contract recommends for a host; empty if it recommends none."""
    found = contract.recommendation(host.host.security)
    return found.mode if found else ""


def _section(contract: Contract, host: HostMatrix, name: str) -> str:
    _refuse_empty(contract, host, name)
    columns, lines = _columns(contract, host)
    notes: list[str] = []
    rows = [
        [feature.title, *(_cell(host, feature, column.modes[0], notes) for column in columns)]
        for feature in contract.features
    ]
    heads = [f"- **{column.letter}**: {_modes(contract, host, column.modes)}" for column in columns]
    parts = [f"## {literal(name)}", _facts(host), "Modes:", "\n".join([*heads, *lines]), _recorded(host, columns)]
    if columns:
        parts.append(table(["", *(column.letter for column in columns)], rows))
    if notes:
        parts.append(numbered(notes))
    return "\n\n".join(parts)


def _refuse_empty(contract: Contract, host: HostMatrix, name: str) -> None:
    places = {(feature.id, claims.id) for feature in contract.features for claims in contract.modes}
    if not places & host.cells.keys():
        newest = host.records[-1]
        raise HarnessError(
            f"the matrix of {name} would be empty: no record has a feature and a mode of the contract; "
            f"the newest has {newest.feature!r} in {newest.mode!r}",
            "use the records' names of features and modes in contract.toml, or remove the records",
        )


def _columns(contract: Contract, host: HostMatrix) -> tuple[list[Column], list[str]]:
    """Return the columns, and lines about modes that have none: not testable there, or not run."""
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    without: dict[str, list[str]] = defaultdict(list)
    best = recommended(contract, host)
    for claims in sorted(contract.modes, key=lambda one: one.id != best):
        cells = [host.cell(feature.id, claims.id) for feature in contract.features]
        if any(cell.verdict in TOLD for cell in cells):
            groups[tuple((cell.verdict, str(cell.flaky), cell.reasons) for cell in cells)].append(claims.id)
        else:
            without[_why_not(cells)].append(claims.id)
    columns = [
        Column(letter, tuple(modes), _days(contract, host, modes))
        for letter, modes in zip(string.ascii_uppercase, groups.values(), strict=False)
    ]
    return columns, [f"- {literal(why)}: {_quoted(modes)}" for why, modes in without.items()]


def _why_not(cells: Sequence[Cell]) -> str:
    reasons = [cell.reasons[0] for cell in cells if cell.verdict is Verdict.UNSUPPORTED and cell.reasons]
    return f"not testable here ({reasons[0].rstrip('.')})" if reasons else "not run"


def _cell(host: HostMatrix, feature: Feature, mode: str, notes: list[str]) -> str:
    """Return a cell with the numbers of its notes; the notes grow by new reasons."""
    cell = host.cell(feature.id, mode)
    reasons = cell.reasons
    if cell.verdict is Verdict.NOT_RUN and not reasons and feature.unasked:
        reasons = (feature.unasked,)
    notes += [reason for reason in reasons if reason not in notes]
    marks = ", ".join(str(notes.index(reason) + 1) for reason in reasons)
    return symbol(cell) + (f" <sup>{marks}</sup>" if marks else "")


def _facts(host: HostMatrix) -> str:
    facts = host.host.fingerprint
    outer = f"; itself under {facts['outer']}" if "outer" in facts else ""
    lines = [
        f"{facts.get('os')}, kernel {facts.get('kernel')}, {facts.get('engine')},"
        f" cgroup v{facts.get('cgroup_version')}",
        f"Security modules: {facts.get('security') or 'none'}",
        f"Processor: {facts.get('cpu')}{outer}",
        f"KVM: {str(facts.get('kvm')).rstrip('.')}",
    ]
    return "\n".join(f"- {literal(line)}" for line in lines)


def _modes(contract: Contract, host: HostMatrix, modes: Sequence[str]) -> str:
    first, *others = modes
    mark = " (recommended)" if first == recommended(contract, host) else ""
    return f"`{first}`{mark}" + (f"; the same as {_quoted(others)}" if others else "")


def _quoted(modes: Sequence[str]) -> str:
    return ", ".join(f"`{mode}`" for mode in modes)


def _recorded(host: HostMatrix, columns: Sequence[Column]) -> str:
    """Return the line that names days and image; it is the only one with a day in it."""
    accels = frozenset(accel for cell in host.cells.values() for accel in cell.accels)
    guests = f"Guests ran {ACCELS[accels]}." if accels in ACCELS else "No guest ran."
    by_days: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        by_days[column.days].append(column.letter)
    days = "; ".join(f"{day} ({', '.join(letters)})" for day, letters in by_days.items()) or host.newest_day.isoformat()
    return f"Recorded with {image(host.image)}: {days}. {guests}"


def _days(contract: Contract, host: HostMatrix, modes: Sequence[str]) -> str:
    cells = [host.cell(feature.id, mode) for feature in contract.features for mode in modes]
    days = sorted({cell.day.isoformat() for cell in cells if cell.day and cell.verdict in TOLD})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
