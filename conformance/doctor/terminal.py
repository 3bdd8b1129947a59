"""The doctor's findings on a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from conformance.doctor.finding import Finding, Report

STATES = {"yes": "green", "no": "bold red", "unknown": "yellow"}


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
