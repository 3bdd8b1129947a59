"""``conformance doctor``."""

import dataclasses
from typing import Annotated

import typer

from conformance.cli.manual import EXAMPLES, STATUS, manual
from conformance.cli.options import echo_json
from conformance.doctor import examination
from conformance.doctor import terminal as doctor_terminal
from conformance.model import contract
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.util.progress import Progress

EXIT_SOMETHING_LACKS = 1


app = typer.Typer()


@app.command(
    name="doctor",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "text for people",
                "conformance doctor --json": "JSON for programs; a state is yes, no or unknown",
                "DOCKER_HOST=ssh://root@kvm.example conformance doctor": "examine another machine",
            },
            STATUS: {
                "0": "everything can be tested",
                "1": "something cannot be tested, or may not be testable",
                "6": "nothing can run",
            },
        }
    ),
)
def doctor_(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Examine this machine, or that of DOCKER_HOST: what can be tested on it, what cannot and why, and what to change.

    It takes seconds and builds or installs nothing. Some findings stay
    unknown until the engine has an image.
    """
    progress = Progress()
    try:
        report = examination.examine(contract.load(), progress)
    finally:
        progress.clear()
    if as_json:
        echo_json([dataclasses.asdict(one) for one in report.findings])
    else:
        doctor_terminal.show(report)
    if report.nothing_runs:
        raise typer.Exit(EXIT_CANNOT_RUN)
    if not report.everything_runs:
        raise typer.Exit(EXIT_SOMETHING_LACKS)
