"""Documents that commands write: those with generated blocks, and the report."""

from collections.abc import Callable
from pathlib import Path

import typer

from conformance.bench import result, table
from conformance.cli import reference, status
from conformance.errors import HarnessError
from conformance.model import contract, record
from conformance.model.contract import Contract
from conformance.mutation import catalogue, concern, image_source, observation, score
from conformance.mutation import outcome as mutation_outcome
from conformance.privileges import configuration, render
from conformance.privileges.claims import measured
from conformance.report import blocks, html, markdown
from conformance.selfcheck import change, outcome, trust
from conformance.util import files, paths


def write_tables(*, check: bool, readme: Path = paths.README, results: Path = paths.RESULTS) -> None:
    """Write the generated blocks of the README and, beside the project's own, of every page of docs/; or check them.

    Raises:
        typer.Exit: with ``check``, after all documents, if any of them is behind.
    """
    claims = contract.load()
    makers = {
        **blocks.makers(claims, record.read(results)),
        **render.makers(claims, measured(claims, configuration.read(results / configuration.FOLDER.name))),
        **trust.makers(claims, change.load(), outcome.read(results / outcome.FOLDER.name)),
        "help": _help,
        **_mutation(results),
        "performance": lambda: table.performance(result.read(results / paths.BENCH.name)),
    }
    pages = sorted(paths.DOCS.glob("*.md")) if readme == paths.README else []
    behind = [one for one in (readme, *pages) if not update(one, lambda text: markdown.fill(text, makers), check=check)]
    if behind:
        raise typer.Exit(status.FAILED)


def _help() -> str:
    from conformance.cli import main  # it imports this module

    return reference.text(main.app)


def write_report(claims: Contract, results: Path) -> Path:
    """Write the report of the records in a folder beside them, and that of the project's records at its usual place."""
    file = paths.REPORT if results == paths.RESULTS else results / paths.REPORT.name
    files.write(file, html.render(claims, record.read(results)), "name another folder with --results")
    return file


def _mutation(results: Path) -> dict[str, Callable[[], str]]:
    files, observed = image_source.read(), observation.load()
    return score.makers(
        catalogue.mutants(files, observed),
        files,
        concern.load(),
        observed,
        mutation_outcome.read(results / mutation_outcome.FOLDER.name),
    )


def refresh() -> None:
    """Write the repository's tables after new records; an installation without the repository has no tables."""
    if paths.CHECKOUT:
        write_tables(check=False)


def update(document: Path, made: Callable[[str], str], *, check: bool = False) -> bool:
    """Regenerate a document's generated blocks, or only check them; return whether they are up to date now."""
    try:
        before = document.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read {document}: {error.strerror}", "name a readable document") from error
    after = made(before)
    if after == before:
        typer.echo(f"{document.name} is up to date")
    elif check:
        typer.echo(f"{document.name} is behind the contract and the records: run conformance tables", err=True)
    else:
        files.write(document, after, "name another document")
        typer.echo(f"wrote the tables into {document.name}")
    return after == before or not check
