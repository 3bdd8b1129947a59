"""The compatibility table on a terminal."""

import io

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.contract import Contract
from conformance.matrix import Cell, HostMatrix
from conformance.verdict import Verdict

STYLES = {
    Verdict.WORKS: "green",
    Verdict.FAILS: "bold red",
    Verdict.KNOWN_FAILURE: "yellow",
    Verdict.FIXED: "bold magenta",
    Verdict.UNSUPPORTED: "cyan",
    Verdict.NOT_RUN: "dim",
    Verdict.ERROR: "bold red",
}


def render(contract: Contract, host: HostMatrix, *, color: bool, width: int = 120) -> str:
    """Draw one host's matrix, with the reasons under it.

    Args:
        contract: for the order and titles of rows and columns.
        host: the cells.
        color: whether to use terminal colours.
        width: in characters.
    """
    shown = [claims for claims in contract.modes if any(mode == claims.id for _, mode in host.cells)]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for claims in shown:
        table.add_column(claims.id)
    notes: list[str] = []
    for feature in contract.features:
        cells = [host.cell(feature.id, claims.id) for claims in shown]
        table.add_row(feature.title, *(_text(cell, notes) for cell in cells))
    # NO_COLOR and dumb terminals were looked at by pytest, which decides on `color`.
    console = Console(file=io.StringIO(), width=width, force_terminal=color, no_color=not color, highlight=False)
    with console.capture() as captured:
        console.print(f"{host.host.name}: {host.image.tag}")
        console.print(table)
        for number, note in enumerate(notes, start=1):
            console.print(Text(f"  {number}  {' '.join(note.split())}"))
    return captured.get().rstrip()


def _text(cell: Cell, notes: list[str]) -> Text:
    marks = []
    for reason in cell.reasons:
        if reason not in notes:
            notes.append(reason)
        marks.append(str(notes.index(reason) + 1))
    text = Text(str(cell.verdict).replace("-", " "), style=STYLES[cell.verdict])
    return text.append(f"  {','.join(marks)}", style="dim") if marks else text
