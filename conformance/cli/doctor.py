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
                "conformance doctor": "for people",
                "conformance doctor --json": "for programs; a state is yes, no or unknown",
                "DOCKER_HOST=ssh://root@kvm.example conformance doctor": "another machine",
            },
            STATUS: {
                "0": "everything can be asked",
                "1": "something cannot, or that is unknown",
                "6": "nothing can run",
            },
        }
    ),
)
def doctor_(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Say in seconds what this machine, or the one of DOCKER_HOST, can and cannot be asked, why, and what to change.

    Nothing is built or installed for it; what cannot be tried without an image stays unknown until the engine has one.
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
