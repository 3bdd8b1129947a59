"""The summary of a run on a terminal: failures first, known failures by cause, the table, and the counts."""

import io
import re
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from conformance.model import matrix, record
from conformance.model.contract import Contract
from conformance.model.matrix import HostMatrix
from conformance.model.record import Record, names
from conformance.model.verdict import Verdict
from conformance.report import terminal_table
from conformance.report.terminal_table import FLAKY, STYLES
from conformance.util.progress import duration

COUNTED = {
    Verdict.FAILS: ("fails", "fail"),
    Verdict.ERROR: ("error", "errors"),
    Verdict.FIXED: ("is fixed", "are fixed"),
    Verdict.WORKS: ("works", "work"),
    Verdict.KNOWN_FAILURE: ("known failure", "known failures"),
    Verdict.NOT_RUN: ("not run", "not run"),
    Verdict.UNSUPPORTED: ("not run here", "not run here"),
}
"""Each verdict with a number, of one and of several checks, in the order of the counts."""

INDENT = "    "

INCOMPLETE = "incomplete: "
"""Begins the reason of a cell without all of its checks (:mod:`conformance.model.matrix`)."""

FEW = 3
"""Names in one line; more are counted."""

Place = tuple[str, str]
"""A feature, by its id or its title, and a mode."""


@dataclass(frozen=True)
class Screen:
    """The place of the text.

    Attributes:
        width: in characters.
        color: whether to use terminal colours; the caller respects NO_COLOR.
    """

    width: int = 80
    color: bool = False


def summary(
    contract: Contract,
    records: Sequence[Record],
    results: Path,
    *,
    screen: Screen,
    seconds: float | None = None,
    reached: tuple[int, int] | None = None,
    selected: Collection[Place] = (),
    announced: Collection[str] = (),
) -> str:
    """Return the summary of all records, host by host, and the counts, seconds and files at the end.

    Args:
        contract: for titles and causes, and for the order of features and modes.
        records: of each file in the order of its lines.
        results: the folder of the records' files.
        screen: width and colours.
        seconds: how long the run took; None for several runs together.
        reached: the numbers of checks that ended and that were to run, for a run that may have ended early.
        selected: features and modes, by their ids, that were to run; the table has them also without a record.
        announced: reasons why checks cannot run here that the user has read before the first one; they are left out.
    """
    console = Console(
        file=io.StringIO(),
        width=screen.width,
        force_terminal=screen.color,
        no_color=not screen.color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    hosts = matrix.build(contract, records)
    called = names(host.host for host in hosts)
    lines = _line_numbers(records, results)
    known = {short(reason) for reason in announced}
    with console.capture() as captured:
        for host in hosts:
            columns = terminal_table.modes(contract, host, selected)
            name = called[host.host.identity]
            console.print(Text("\n".join(_wrapped(f"{name}: {host.image.tag}", screen.width))), soft_wrap=True)
            for style, text in _sections(contract, host, lines, columns, known):
                _print(console, text, style)
            for line in terminal_table.lines(contract, host, screen.width, selected):
                console.print(line, soft_wrap=True)
        _print(console, totals(records, seconds=seconds, reached=reached), "bold")
        for file in dict.fromkeys(file for file, _ in lines.values()):
            console.print(Text(f"records: {file}"), soft_wrap=True)
    return captured.get().rstrip()


def totals(records: Iterable[Record], *, seconds: float | None = None, reached: tuple[int, int] | None = None) -> str:
    """Return the counts of a run in a sentence; arguments as of :func:`summary`."""
    newest = _newest(records)
    early = f"ended early, after {reached[0]} of {reached[1]} checks" if reached and reached[0] < reached[1] else ""
    number = sum(one.verdict is not Verdict.UNSUPPORTED for one in newest)
    took = "" if seconds is None else f" in {duration(seconds)}"
    undecided = "" if any(one.verdict.decided for one in newest) else "; no check reached a verdict"
    return f"{early or f'{number} checks'}{took}: {_counts(newest) or 'nothing is recorded'}{undecided}"


def mode_line(records: Sequence[Record], seconds: float) -> str:
    """Return the counts of one mode in a line, for the time when it ends."""
    newest = _newest(records)
    return f"{records[0].mode}: {len(newest)} checks in {duration(seconds)}: {_counts(newest)}"


def failure_line(one: Record) -> str:
    """Return a bad verdict in one line, for the time when it is found."""
    return f"{one.verdict.words}: {one.feature} in {one.mode}, {one.check}: {one.reason}"


def not_run_here(reasons: Mapping[str, str]) -> list[str]:
    """Return one line for each reason why modes or features cannot run on a host."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        by_reason[short(reason)].append(name)
    return [f"not run here: {', '.join(found)}: {reason}" for reason, found in by_reason.items()]


def short(reason: str) -> str:
    """Return a reason in one line, without an engine's own long text in parentheses."""
    return re.sub(r" \((?=.{60}).*\)$", "", " ".join(reason.split()))


# ------------------------------------------------------------------------------------------------- sections


def _sections(
    contract: Contract,
    host: HostMatrix,
    lines: Mapping[int, tuple[Path, int]],
    modes: Sequence[str],
    announced: Collection[str],
) -> Iterator[tuple[str, str]]:
    """Yield the style and the text of each line about something that does not work, the most important first."""
    titles = {feature.id: feature.title for feature in (*contract.features, *contract.unpromised)}
    shown = [one for place in _places(contract, host) for one in host.cells[place].records]

    def title(one: Record) -> str:
        return titles.get(one.feature, one.feature)

    bad: list[Record] = []
    folded: dict[tuple[Verdict, str], list[Place]] = defaultdict(list)
    gone: dict[str, Counter[str]] = defaultdict(Counter)
    for one in shown:
        why = short(matrix.reason(contract, one))
        if one.verdict.bad:
            bad.append(one)
        elif one.verdict is Verdict.UNSUPPORTED and why in announced:
            continue
        elif one.mode not in modes and len({feature for feature, _ in host.cells}) > 1:
            gone[one.mode][why] += 1
        elif one.verdict is not Verdict.WORKS:
            folded[one.verdict, why].append((title(one), one.mode))
    yield from _failures(bad, title, lines)
    for (feature, mode), cell in host.cells.items():
        if cell.flaky:
            where = f"{titles.get(feature, feature)} in {mode}"
            yield FLAKY, f"flaky, {cell.flaky}: {where}: {'; '.join(cell.flaky.notes)}"
    for verdict in (Verdict.KNOWN_FAILURE, Verdict.NOT_RUN, Verdict.UNSUPPORTED):
        label = "not run here" if verdict is Verdict.UNSUPPORTED else verdict.words
        for (found, why), places in folded.items():
            if found is verdict:
                yield STYLES[verdict], f"{label}: {_folded(places, modes)}: {why}"
    for line in not_run_here({mode: reasons.most_common(1)[0][0] for mode, reasons in gone.items()}):
        yield STYLES[Verdict.UNSUPPORTED], line
    missing: dict[str, list[Place]] = defaultdict(list)
    for feature, mode in _places(contract, host):
        cell = host.cells[feature, mode]
        if cell.verdict is Verdict.NOT_RUN:
            for reason in cell.reasons:
                if reason.startswith(INCOMPLETE):
                    missing[_few(reason.removeprefix(INCOMPLETE))].append((titles.get(feature, feature), mode))
    for reason, places in missing.items():
        yield STYLES[Verdict.NOT_RUN], f"{INCOMPLETE}{_folded(places, modes)}: {reason}"


def _failures(
    bad: Sequence[Record], title: Callable[[Record], str], lines: Mapping[int, tuple[Path, int]]
) -> Iterator[tuple[str, str]]:
    """Yield the lines of verdicts that need attention; checks of a feature with one cause in the same modes are one."""
    by_check: dict[tuple[Verdict, str, str, str], list[Record]] = defaultdict(list)
    for one in bad:
        by_check[one.verdict, title(one), one.reason, one.check].append(one)
    groups: dict[tuple[Verdict, str, str, tuple[str, ...]], list[Record]] = defaultdict(list)
    for (verdict, feature, why, _), records in by_check.items():
        groups[verdict, feature, why, tuple(one.mode for one in records)] += records
    files = {file for file, _ in lines.values()}
    for verdict in (Verdict.FAILS, Verdict.ERROR, Verdict.FIXED):
        for (found, feature, why, modes), records in groups.items():
            if found is verdict:
                yield STYLES[verdict], f"{verdict.words}: {feature} in {', '.join(modes)}: {why}"
                yield "", f"{INDENT}checks: {', '.join(dict.fromkeys(one.check for one in records))}"
                numbers: dict[Path, list[int]] = defaultdict(list)
                for one in records:
                    file, number = lines[id(one)]
                    numbers[file].append(number)
                for file, found_ in numbers.items():
                    of = file.name if len(files) > 1 else "the records"
                    yield "", f"{INDENT}evidence: line {_ranges(sorted(found_))} of {of}"


def _places(contract: Contract, host: HostMatrix) -> list[Place]:
    """Return the cells in the order of the contract's features and modes."""
    features = [feature.id for feature in contract.features]
    modes = [mode.id for mode in contract.modes]

    def rank(known: Sequence[str], name: str) -> int:
        return known.index(name) if name in known else len(known)

    return sorted(host.cells, key=lambda place: (rank(features, place[0]), rank(modes, place[1])))


def _folded(places: Sequence[Place], modes: Sequence[str]) -> str:
    """Return features and modes in few words."""
    by_mode: dict[str, dict[str, None]] = defaultdict(dict)
    for title, mode in places:
        by_mode[mode][title] = None
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for mode, titles in by_mode.items():
        groups[tuple(titles)].append(mode)
    return "; ".join(
        f"{', '.join(titles)} in {'all modes' if len(where) > 1 and {*where} >= {*modes} else ', '.join(where)}"
        for titles, where in groups.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers in few words: ``4-7, 9``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def _few(missing: str) -> str:
    """Return which checks did not run, or their number where they are many."""
    number = missing.count(", ") + 1
    return missing if number <= FEW else f"{number} checks did not run"


# ------------------------------------------------------------------------------------------------- helpers


def _newest(records: Iterable[Record]) -> list[Record]:
    """Return the newest record of each check in each mode, run and host."""
    found = {(one.host.identity, one.run, one.mode, one.feature, one.check): one for one in records}
    return list(found.values())


def _counts(records: Iterable[Record]) -> str:
    numbers = Counter(one.verdict for one in records)
    return ", ".join(
        f"{numbers[verdict]} {words[numbers[verdict] > 1]}" for verdict, words in COUNTED.items() if numbers[verdict]
    )


def _line_numbers(records: Iterable[Record], results: Path) -> dict[int, tuple[Path, int]]:
    """Return file and line of each record, by the record's identity."""
    numbers: Counter[Path] = Counter()
    found = {}
    for one in records:
        file = results / record.file_name(one.host.name, one.run)
        numbers[file] += 1
        found[id(one)] = (file, numbers[file])
    return found


def _print(console: Console, text: str, style: str) -> None:
    """Print a text in lines of the console's width; its label has the style."""
    label, colon, _ = text.partition(":")
    line = Text("\n".join(_wrapped(text, console.width)))
    if style and colon:
        line.stylize(style, 0, len(label) + 1)
    console.print(line, soft_wrap=True)


def _wrapped(text: str, width: int) -> list[str]:
    indent = INDENT if text.startswith(INDENT) else ""
    return textwrap.wrap(
        " ".join(text.split()),
        width=min(width, sys.maxsize),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
