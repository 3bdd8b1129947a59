"""The table of a smoke run on a terminal: a row for each tested feature, with the number of its checks that ran."""

import io
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.model.verdict import Verdict, gravest
from conformance.report.terminal_table import STYLES


@dataclass(frozen=True)
class Row:
    """The result of one feature.

    Attributes:
        title: the feature's.
        verdict: the gravest one of its checks that ran.
        ran: the number of checks that ran.
        checks: the number of all its checks.
        reason: why the verdict is not *works*.
    """

    title: str
    verdict: Verdict
    ran: int
    checks: int
    reason: str


def rows(contract: Contract, records: Sequence[Record]) -> list[Row]:
    """Return a row for each feature with records, in the contract's order."""
    made = []
    for feature in contract.features:
        latest = matrix.latest(one for one in records if one.feature == feature.id)
        if latest:
            verdict = gravest(one.verdict for one in latest.values())
            worst = next(one for one in latest.values() if one.verdict is verdict)
            ran = sum(one.verdict not in (Verdict.UNSUPPORTED, Verdict.NOT_RUN) for one in latest.values())
            made.append(Row(feature.title, verdict, ran, len(worst.checks), matrix.reason(contract, worst)))
    return made


def summary(rows_: Sequence[Row]) -> str:
    """Return the number of features with each verdict, in one line.

    >>> summary([Row("KVM", Verdict.WORKS, 1, 1, ""), Row("NAT", Verdict.FAILS, 2, 8, "no lease")])
    'works: 1, fails: 1'
    """
    counts = Counter(row.verdict for row in rows_)
    return ", ".join(f"{verdict.words}: {counts[verdict]}" for verdict in Verdict if counts[verdict])


def draw(rows_: Sequence[Row], *, width: int, color: bool) -> str:
    """Return the table, with the reasons below it.

    Args:
        rows_: the rows.
        width: in characters.
        color: whether to use terminal colours.
    """
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    reasons = list(dict.fromkeys(row.reason for row in rows_ if row.reason))
    table = Table("Feature", "Result", "Checks run", box=box.SIMPLE_HEAD)
    for row in rows_:
        result = Text(row.verdict.words, style=STYLES[row.verdict])
        if row.reason:
            result.append(f"  {reasons.index(row.reason) + 1}", style="dim")
        table.add_row(row.title, result, f"{row.ran} of {row.checks}")
    with console.capture() as captured:
        console.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    for number, reason in enumerate(reasons, start=1):
        lines += textwrap.wrap(reason, width, initial_indent=f"  {number}  ", subsequent_indent="     ")
    return "\n".join(lines).strip("\n")
