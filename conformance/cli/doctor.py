"""``conformance doctor``."""

import dataclasses
import platform
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from conformance.cli import status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import echo_json
from conformance.doctor import examination
from conformance.doctor import terminal as doctor_terminal
from conformance.doctor.finding import Report
from conformance.model import contract
from conformance.util.progress import Progress

app = typer.Typer()


@app.command(
    name="doctor",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "text for people",
                "conformance doctor --json": "JSON for programs and for reports of bugs",
                "DOCKER_HOST=ssh://root@kvm.example conformance doctor": "examine another machine",
            },
            STATUS: {
                "0": "the mode that is recommended for this host can run",
                "1": "only other modes can run",
            }
            | COMMON_STATUS,
        }
    ),
)
def doctor_(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Examine this machine, or DOCKER_HOST's; recommend a mode.

    Each requirement is OK, MISSING (with a remedy), or N/A: it could not be
    examined, or does not matter here. The end names the mode to use and its
    command. It takes seconds and builds or installs nothing.
    """
    progress = Progress()
    try:
        report = examination.examine(contract.load(), progress)
    finally:
        progress.clear()
    if as_json:
        echo_json(_as_json(report))
    else:
        doctor_terminal.show(report)
    if report.nothing_runs:
        raise typer.Exit(status.CANNOT_RUN)
    if not report.recommended_runs:
        raise typer.Exit(status.FAILED)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "version": version("libvirt-conformance"),
        "kernel": platform.release(),
        "mode": report.mode.id if report.mode else None,
        "recommended": report.recommendation.mode if report.recommendation else None,
        "command": doctor_terminal.command(report.mode, sys.maxsize) if report.mode else None,
        "findings": [dataclasses.asdict(one) for one in report.findings],
    }
