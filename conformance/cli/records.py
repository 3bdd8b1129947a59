"""Commands that read records: ``conformance tables``, ``report``, ``diff`` and ``merge``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import documents, status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import Records
from conformance.model import contract, record
from conformance.report import diff, html, merge
from conformance.util import files, paths

app = typer.Typer()


@app.command(
    name="tables",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance tables": "update the tables after a change of the contract",
                "conformance tables --check": "check them, in CI",
            },
            STATUS: {"0": "up to date", "1": "out of date, with --check"} | COMMON_STATUS,
        }
    ),
)
def tables_(
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 if a table is out of date")] = False,
    readme: Annotated[
        Path, typer.Option(help="the document with the generated blocks", show_default="README.md")
    ] = paths.README,
    results: Annotated[Path, typer.Option(help="the folder of the records", show_default="results")] = paths.RESULTS,
) -> None:
    """Write the generated tables of README and docs/."""
    paths.require_checkout("tables")
    documents.write_tables(check=check, readme=readme, results=results)


@app.command(
    epilog=manual(
        {
            EXAMPLES: {
                "conformance report": "write report.html from results/",
                "conformance report --results night.jsonl --output /tmp/night.html": "write a report of one run",
            },
            STATUS: {"0": "written", "4": "no records"} | COMMON_STATUS,
        }
    )
)
def report(
    output: Annotated[
        Path, typer.Option(help="write the report to this file", show_default="report.html")
    ] = paths.REPORT,
    results: Annotated[
        Path, typer.Option(exists=True, help="a file or a folder of records", show_default="results")
    ] = paths.RESULTS,
) -> None:
    """Write the records as one HTML file: summary, matrix, evidence."""
    files.write(output, html.render(contract.load(), _recorded(results)), "name another file with --output")
    typer.echo(f"wrote {output}")


@app.command(
    name="diff",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance diff results artefacts/RUN": "compare a run with the documented results",
                "conformance diff last tonight --complete": "compare two nights; report lost cells too",
                "conformance diff old.jsonl new.jsonl --json": "compare two runs, as JSON",
            },
            STATUS: {"0": "nothing is worse", "1": "something is worse"} | COMMON_STATUS,
        }
    ),
)
def diff_(
    old: Records,
    new: Records,
    complete: Annotated[
        bool, typer.Option("--complete", help="a host or a cell that only the old records have is worse")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare two sets of records.

    Worse are new failures, newly flaky checks, missing verdicts and slower
    cells. Hosts and cells that the new runs did not select are counted; with
    --complete they are missing verdicts.

    A cell is slower if its fastest new run took longer than its
    slowest old run, by more than the old runs differ from each other.
    Durations are compared only if there are at least three old runs.
    """
    claims = contract.load()
    compared = diff.compare(claims, *(_recorded(place) for place in (old, new)), complete=complete)
    worse = any(one.worse for one in compared)
    if as_json:
        typer.echo(json.dumps({"worse": worse, "hosts": [dataclasses.asdict(one) for one in compared]}, indent=2))
    else:
        typer.echo(diff.render(claims, compared))
    raise typer.Exit(status.FAILED if worse else 0)


@app.command(
    name="merge",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance merge fetched/* --into results": "merge the records of several runners, a folder each",
                "conformance merge a.jsonl b.jsonl --into /tmp/both": "merge two runs",
            },
            STATUS: {"0": "merged"} | COMMON_STATUS,
        }
    ),
)
def merge_(
    places: Annotated[list[Path], typer.Argument(exists=True, help="files of records, or folders with such files")],
    into: Annotated[Path, typer.Option(help="the folder to merge into", file_okay=False)],
) -> None:
    """Merge the records of many runners into one folder.

    Duplicates are merged, and of two copies of a run the longer one is kept
    if it begins with the shorter one. Nothing is written if two copies
    contradict each other or a file is not a record.
    """
    merged = merge.merge(places, into)
    if not merged.written and not merged.known:
        raise typer.BadParameter(f"no records in {', '.join(map(str, places))}: name files or folders that a run wrote")
    typer.echo(f"{len(merged.written)} new runs in {into}; {merged.known} were there already")
    for file in merged.written:
        typer.echo(f"  {file}")
    for name in merged.twins:
        typer.echo(f"several machines have the name {name}: give each its own --host-name", err=True)


def _recorded(place: Path) -> list[record.Record]:
    records = list(record.read(place))
    if not records:
        raise typer.BadParameter(
            f"no records in {place}: name a file or folder that a run wrote, or record one: {paths.COMMAND} matrix"
        )
    return records
