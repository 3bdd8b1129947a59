"""The compatibility table on a terminal."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.matrix import Cell, HostMatrix
from conformance.model.record import Record, names
from conformance.model.verdict import Verdict

STYLES = {
    Verdict.WORKS: "green",
    Verdict.FAILS: "bold red",
    Verdict.KNOWN_FAILURE: "yellow",
    Verdict.FIXED: "bold magenta",
    Verdict.UNSUPPORTED: "cyan",
    Verdict.NOT_RUN: "dim",
    Verdict.ERROR: "bold red",
}

FLAKY = "bold magenta"


def render(contract: Contract, records: Iterable[Record], *, color: bool) -> Iterator[str]:
    """Return the matrix of each host and image in the records."""
    hosts = matrix.build(contract, records)
    called = names(host.host for host in hosts)
    return (draw(contract, host, called[host.host.identity], color=color) for host in hosts)


def draw(contract: Contract, host: HostMatrix, name: str, *, color: bool, width: int = 120) -> str:
    """Return one host's matrix, with the reasons below it, in several tables if the modes are too wide for one.

    Args:
        contract: for the order and titles of rows and columns.
        host: the cells.
        name: the host's name.
        color: whether to use terminal colours.
        width: in characters.
    """
    # `color` comes from pytest, which respects NO_COLOR and dumb terminals.
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    groups: list[list[str]] = [[]]
    for mode in (claims.id for claims in contract.modes if any(mode == claims.id for _, mode in host.cells)):
        if groups[-1] and _width(console, _table(contract, host, [*groups[-1], mode], [])) > width:
            groups.append([])
        groups[-1].append(mode)
    notes: list[str] = []
    with console.capture() as captured:
        console.print(f"{name}: {host.image.tag}")
        for modes in groups:
            console.print(_table(contract, host, modes, notes))
        for number, note in enumerate(notes, start=1):
            console.print(Text(f"  {number}  {' '.join(note.split())}"))
    return captured.get().rstrip()


def _table(contract: Contract, host: HostMatrix, modes: Sequence[str], notes: list[str]) -> Table:
    """Return a table of some modes; adds new reasons to the notes."""
    table = Table("", *modes, box=box.SIMPLE_HEAD)
    for feature in contract.features:
        table.add_row(feature.title, *(_text(host.cell(feature.id, mode), notes) for mode in modes))
    return table


def _width(console: Console, table: Table) -> int:
    """Return a table's natural width."""
    return console.measure(table, options=console.options.update(max_width=sys.maxsize)).maximum


def _text(cell: Cell, notes: list[str]) -> Text:
    marks = []
    for reason in cell.reasons:
        if reason not in notes:
            notes.append(reason)
        marks.append(str(notes.index(reason) + 1))
    shown = cell.flaky.beside if cell.flaky else cell.verdict
    text = Text(shown.words if shown else "", style=STYLES[shown] if shown else "")
    if cell.flaky:
        text.append("; " if shown else "").append(f"flaky: {cell.flaky}", style=FLAKY)
    return text.append(f"  {','.join(marks)}", style="dim") if marks else text
