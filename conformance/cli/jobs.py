"""``conformance jobs``."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from conformance.ci import gitlab, workflow
from conformance.cli import documents, status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import echo_json
from conformance.model import contract
from conformance.util import paths

app = typer.Typer()


@app.command(
    name="jobs",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance jobs": "list all jobs",
                "conformance jobs --check": "check that each cell has a job",
                "conformance jobs --missing cells": "list jobs without records below cells/",
                "conformance jobs --gitlab": "print a GitLab pipeline",
            },
            STATUS: {
                "0": "success",
                "1": "a cell lacks a job or records, or the workflow is out of date",
            }
            | COMMON_STATUS,
            FILES: {".github/workflows/nightly.yml": "the jobs"},
        }
    ),
)
def jobs_(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    as_gitlab: Annotated[bool, typer.Option("--gitlab", help="print a GitLab pipeline")] = False,
    check: Annotated[bool, typer.Option("--check", help="print only the cells that no job tests")] = False,
    write: Annotated[bool, typer.Option("--write", help="write the contract's modes into the workflow")] = False,
    missing: Annotated[
        Path | None, typer.Option(exists=True, help="list only jobs whose artefact in this folder has no record")
    ] = None,
) -> None:
    """List the nightly jobs, or check that they test everything."""
    paths.require_checkout("jobs")
    if write:
        claims = contract.load()
        documents.update(workflow.NIGHTLY, lambda before: workflow.generated(before, claims))
        return
    known = workflow.load()
    if check:
        wrong = [*workflow.check(contract.load(), known), *workflow.outdated(contract.load())]
        for line in wrong:
            typer.echo(line, err=True)
        if not wrong:
            typer.echo(f"{len(known)} jobs test every feature in every mode")
        raise typer.Exit(status.FAILED if wrong else 0)
    listed = known if missing is None else workflow.missing(known, missing)
    if as_json:
        echo_json([dataclasses.asdict(one) for one in listed])
    elif as_gitlab:
        typer.echo(gitlab.pipeline(listed), nl=False)
    else:
        for one in listed:
            runner = ", ".join(one.runs_on)
            typer.echo(f"{one.artefact}: {shlex.join(one.command)} ({runner}; {one.minutes} minutes)")
    if missing is not None and listed:
        raise typer.Exit(status.FAILED)
