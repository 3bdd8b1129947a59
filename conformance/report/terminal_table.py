"""The table of one host on a terminal: verdicts in words, or in signs below numbered modes where words do not fit."""

from collections.abc import Collection, Iterator, Sequence

from rich.text import Text

from conformance.model.contract import Contract
from conformance.model.matrix import Cell, HostMatrix
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

SIGNS = {
    Verdict.WORKS: "✓",
    Verdict.FAILS: "✗",
    Verdict.KNOWN_FAILURE: "k",
    Verdict.FIXED: "f",
    Verdict.UNSUPPORTED: "·",
    Verdict.NOT_RUN: "-",
    Verdict.ERROR: "!",
}

FLAKY_SIGN = "~"

GAP = "  "


def modes(contract: Contract, host: HostMatrix, selected: Collection[tuple[str, str]] = ()) -> list[str]:
    """Return the modes with a check that could run on the host or has no record yet, in the contract's order."""
    tested = {place[1] for place, cell in host.cells.items() if cell.verdict is not Verdict.UNSUPPORTED}
    tested |= {mode for _, mode in selected} - {mode for _, mode in host.cells}
    known = [mode.id for mode in contract.modes if mode.id in tested]
    return [*known, *sorted(tested - {*known})]


def lines(
    contract: Contract, host: HostMatrix, width: int, selected: Collection[tuple[str, str]] = ()
) -> Iterator[Text]:
    """Yield the table's lines: a row for each tested feature, a column for each mode that could run.

    Features and modes that were selected are there also without a record.
    """
    columns = modes(contract, host, selected)
    if not columns:
        return
    tested = {feature for feature, _ in (*host.cells, *selected)}
    rows = {
        feature.title: [host.cell(feature.id, mode) for mode in columns]
        for feature in (*contract.features, *contract.unpromised)
        if feature.id in tested
    }
    yield Text()
    first = max(len(title) for title in rows)
    widths = [
        max(len(mode), *(len(_words(row[number]).plain) for row in rows.values()))
        for number, mode in enumerate(columns)
    ]
    if first + sum(len(GAP) + one for one in widths) <= width:
        yield _line("", [Text(mode, "bold") for mode in columns], first, widths)
        for title, cells in rows.items():
            yield _line(title, [_words(cell) for cell in cells], first, widths)
    else:
        yield from _numbered(columns, rows, width)
    yield Text()


def _numbered(columns: Sequence[str], rows: dict[str, list[Cell]], width: int) -> Iterator[Text]:
    """Yield a table with signs, in several parts if the modes are too many even so, and the meanings of its signs."""
    first = max(len(title) for title in rows)
    each = len(str(len(columns)))
    at_once = max(1, (width - first) // (each + len(GAP)))
    for start in range(0, len(columns), at_once):
        part = range(start, min(start + at_once, len(columns)))
        widths = [each] * len(part)
        yield _line("", [Text(str(number + 1), "bold") for number in part], first, widths)
        for title, cells in rows.items():
            yield _line(title, [_sign(cells[number]) for number in part], first, widths)
    used = {cell.verdict: None for cells in rows.values() for cell in cells}
    flaky = [f"{FLAKY_SIGN} flaky"] if any(cell.flaky for cells in rows.values() for cell in cells) else []
    signs = [f"{sign} {verdict.words}" for verdict, sign in SIGNS.items() if verdict in used]
    yield from _flowing([f"{number} {mode}" for number, mode in enumerate(columns, start=1)], width)
    yield from _flowing([*signs, *flaky], width)


def _line(title: str, cells: Sequence[Text], first: int, widths: Sequence[int]) -> Text:
    line = Text(title.ljust(first))
    for cell, width in zip(cells, widths, strict=True):
        line.append(GAP).append_text(cell).append(" " * (width - len(cell.plain)))
    line.rstrip()
    return line


def _flowing(words: Sequence[str], width: int) -> Iterator[Text]:
    """Yield words side by side, in as many lines as they need."""
    line = ""
    for word in words:
        if line and len(line) + len(GAP) + len(word) > width:
            yield Text(line)
            line = ""
        line = f"{line}{GAP}{word}" if line else word
    yield Text(line)


def _words(cell: Cell) -> Text:
    shown = cell.flaky.beside if cell.flaky else cell.verdict
    text = Text(shown.words if shown else "", style=STYLES[shown] if shown else "")
    if cell.flaky:
        text.append("; " if shown else "").append(f"flaky: {cell.flaky}", style=FLAKY)
    return text


def _sign(cell: Cell) -> Text:
    shown = cell.flaky.beside if cell.flaky else cell.verdict
    return Text(SIGNS[shown], style=STYLES[shown]) if shown else Text(FLAKY_SIGN, style=FLAKY)
