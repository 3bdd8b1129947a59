"""The summary of the report: failures by their cause, and the cells of a mode by their verdict."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from conformance.model.contract import Contract
from conformance.model.verdict import Verdict
from conformance.report.page.cells import STYLES, Column, ModeCell, Sheet


@dataclass(frozen=True)
class Group:
    """Cells of one mode with the same verdict, for the same reasons.

    Attributes:
        style: their style.
        reasons: why their verdict is not *works*.
        cells: the cells.
    """

    style: str
    reasons: Sequence[str]
    cells: Sequence[ModeCell]


@dataclass(frozen=True)
class Line:
    """Cells of one host that share a mode or a feature.

    Attributes:
        title: the mode or the feature that they share.
        host: the host's name.
        links: titles and names of the cells.
    """

    title: str
    host: str
    links: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Failure:
    """A reason, and the cells that do not work for it.

    Attributes:
        reason: the explanation of the cause; else the reason as recorded.
        cells: the cells, each with its column.
    """

    reason: str
    cells: Sequence[tuple[Column, ModeCell]]

    @property
    def recommended(self) -> bool:
        """Return whether cells of a recommended mode are among them."""
        return any(column.recommended for column, _ in self.cells)

    @property
    def lines(self) -> Sequence[Line]:
        """Return the cells by mode or by feature, whichever takes fewer lines."""
        by_mode = _lines((column.host, column.mode.id, place.feature.title, place.id) for column, place in self.cells)
        by_feature = _lines(
            (column.host, place.feature.title, column.mode.id, place.id) for column, place in self.cells
        )
        return min(by_mode, by_feature, key=len)


def _lines(cells: Iterable[tuple[str, str, str, str]]) -> list[Line]:
    """Return lines from cells: host, mode or feature that a line shares, title and name."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for host, shared, title, name in cells:
        found.setdefault((host, shared), []).append((title, name))
    return [Line(shared, host, links) for (host, shared), links in found.items()]


def groups(contract: Contract, column: Column) -> list[Group]:
    """Return the cells of a mode by verdict and reasons, those that need attention first."""
    found: dict[tuple[str, tuple[str, ...]], list[ModeCell]] = {}
    for place in column.cells:
        found.setdefault((place.style, _reasons(contract, place)), []).append(place)
    ordered = sorted(found.items(), key=lambda item: STYLES.index(item[0][0]))
    return [Group(style, reasons, cells) for (style, reasons), cells in ordered]


def failures(contract: Contract, sheets: Iterable[Sheet]) -> list[Failure]:
    """Return the cells that need attention, by reason; those of recommended modes first, then the most frequent."""
    return _by_reason(contract, sheets, lambda place: place.bad)


def known_failures(contract: Contract, sheets: Iterable[Sheet]) -> list[Failure]:
    """Return the cells whose failure is known, in the same order."""
    return _by_reason(contract, sheets, lambda place: place.style == Verdict.KNOWN_FAILURE)


def _by_reason(contract: Contract, sheets: Iterable[Sheet], wanted: Callable[[ModeCell], bool]) -> list[Failure]:
    found: dict[str, list[tuple[Column, ModeCell]]] = {}
    for column in (column for sheet in sheets for column in sheet.columns):
        for place in filter(wanted, column.cells):
            for reason in _reasons(contract, place):
                found.setdefault(reason, []).append((column, place))
    listed = [Failure(reason, cells) for reason, cells in found.items()]
    return sorted(listed, key=lambda failure: (not failure.recommended, -len(failure.cells)))


def _reasons(contract: Contract, place: ModeCell) -> tuple[str, ...]:
    """Return the reasons of a cell; of a failure the causes, without the details that differ from cell to cell."""
    if place.style not in (Verdict.FAILS, Verdict.KNOWN_FAILURE):
        return tuple(place.reasons) or ((place.word,) if place.bad else ())
    explained = {cause.id: cause.explanation for cause in contract.causes}
    grounds = [record for record in place.cell.records if record.verdict is place.cell.verdict]
    return tuple(dict.fromkeys(explained.get(record.cause) or record.reason or place.word for record in grounds))
