"""The doctor's findings on a terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from conformance.doctor.finding import Finding, Report

STATES = {"yes": "green", "no": "bold red", "unknown": "yellow"}


def show(report: Report) -> None:
    """Print the doctor's findings; rich decides on colours by NO_COLOR and the type of the output."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    for one in report.findings:
        console.print(Text(f"{one.state:<8}", style=STATES[one.state]), Text(f"{one.title}: {one.seen}"), sep="")
        for line in _consequences(one):
            console.print(Text(f"        {line}", style="dim" if one.state == "yes" else ""))
    if report.nothing_runs:
        console.print(Text("nothing can run on this machine", style="bold red"))
    else:
        some = f"{'everything' if report.everything_runs else 'not everything'} can be tested on this machine"
        console.print(Text(some, style="bold"))


def _consequences(one: Finding) -> Iterator[str]:
    if one.means:
        yield one.means
    if one.state != "yes" and one.costs:
        certain = "cannot test" if one.state == "no" else "may not be testable"
        untested = "anything" if one.vital else ", ".join([*one.features, *(f"mode {mode}" for mode in one.modes)])
        yield f"{certain}: {untested}"
    if one.remedy:
        yield f"what to do: {one.remedy}"
