"""What people read on a terminal: the compatibility table, and the doctor's findings."""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.doctor.finding import Finding, Report
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

STATES = {"yes": "green", "no": "bold red", "unknown": "yellow"}

FLAKY = "bold magenta"


def render(contract: Contract, records: Iterable[Record], *, color: bool) -> Iterator[str]:
    """Draw the matrix of each host and image that records are of."""
    hosts = matrix.build(contract, records)
    called = names(host.host for host in hosts)
    return (draw(contract, host, called[host.host.identity], color=color) for host in hosts)


def draw(contract: Contract, host: HostMatrix, name: str, *, color: bool, width: int = 120) -> str:
    """Draw one host's matrix, with the reasons under it; in several tables, where all modes are too wide for one.

    Args:
        contract: for the order and titles of rows and columns.
        host: the cells.
        name: what to call the host.
        color: whether to use terminal colours.
        width: in characters.
    """
    # NO_COLOR and dumb terminals were looked at by pytest, which decides on `color`.
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
    """Make a table of some modes; the notes grow by what is new."""
    table = Table("", *modes, box=box.SIMPLE_HEAD)
    for feature in contract.features:
        table.add_row(feature.title, *(_text(host.cell(feature.id, mode), notes) for mode in modes))
    return table


def _width(console: Console, table: Table) -> int:
    """Return how wide a table is that nothing makes narrower."""
    return console.measure(table, options=console.options.update(max_width=sys.maxsize)).maximum


def show(report: Report) -> None:
    """Print the doctor's findings; rich looks at NO_COLOR and at what the output is."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    for one in report.findings:
        console.print(Text(f"{one.state:<8}", style=STATES[one.state]), Text(f"{one.title}: {one.seen}"), sep="")
        for line in _consequences(one):
            console.print(Text(f"        {line}", style="dim" if one.state == "yes" else ""))
    if report.nothing_runs:
        console.print(Text("nothing can run here", style="bold red"))
    else:
        some = "everything can be asked here" if report.everything_runs else "not everything can be asked here"
        console.print(Text(some, style="bold"))


def _consequences(one: Finding) -> Iterator[str]:
    if one.means:
        yield one.means
    if one.state != "yes" and one.costs:
        certain = "cannot be asked" if one.state == "no" else "perhaps not to be asked"
        what = "anything" if one.vital else ", ".join([*one.features, *(f"mode {mode}" for mode in one.modes)])
        yield f"{certain}: {what}"
    if one.remedy:
        yield f"what to do: {one.remedy}"


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
