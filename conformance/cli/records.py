"""Commands that read records: ``conformance tables``, ``report``, ``diff`` and ``merge``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import Records
from conformance.model import contract, record
from conformance.report import diff, html, merge
from conformance.util import paths

EXIT_WORSE = 1


app = typer.Typer()


@app.command(
    name="tables",
    epilog=manual(
        {
            EXAMPLES: {"conformance tables": "after a change of the contract", "conformance tables --check": "in a CI"},
            STATUS: {"0": "up to date", "1": "behind, with --check"} | COMMON_STATUS,
        }
    ),
)
def tables_(
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit 1 if the README is behind")] = False,
    readme: Annotated[Path, typer.Option(help="the document with the generated blocks")] = paths.README,
    results: Annotated[Path, typer.Option(help="the folder of the records")] = paths.RESULTS,
) -> None:
    """Write the README's generated blocks from the contract and the records."""
    paths.require_checkout("tables")
    documents.write_tables(check=check, readme=readme, results=results)


@app.command(
    epilog=manual(
        {
            EXAMPLES: {
                "conformance report": "write report.html from results/",
                "conformance report --results night.jsonl --output /tmp/night.html": "of one run, elsewhere",
            },
            STATUS: {"0": "written"} | COMMON_STATUS,
        }
    )
)
def report(
    output: Annotated[Path, typer.Option(help="the file")] = paths.REPORT,
    results: Annotated[Path, typer.Option(exists=True, help="a file or a folder of records")] = paths.RESULTS,
) -> None:
    """Write the records as one HTML file that needs nothing beside itself: the matrix, and what each cell rests on."""
    documents.write(output, html.render(contract.load(), record.read(results)))
    typer.echo(f"wrote {output}")


@app.command(
    name="diff",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance diff results tonight": "what a night found out, beside what is documented",
                "conformance diff old.jsonl new.jsonl --json": "two runs, for a program",
            },
            STATUS: {"0": "nothing is worse", "1": "something is"} | COMMON_STATUS,
        }
    ),
)
def diff_(
    old: Records, new: Records, as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False
) -> None:
    """Say what differs between two sets of records; exit 1 if anything is worse.

    Worse is what newly fails or is newly flaky, an answer that is missing, and a cell that got slower. A cell is slower
    if its fastest new run took longer than its slowest old one, by more than the old ones differ from each other; fewer
    than three old runs say nothing of that.
    """
    claims = contract.load()
    compared = diff.compare(claims, *(_recorded(place) for place in (old, new)))
    worse = any(one.worse for one in compared)
    if as_json:
        typer.echo(json.dumps({"worse": worse, "hosts": [dataclasses.asdict(one) for one in compared]}, indent=2))
    else:
        typer.echo(diff.render(claims, compared))
    raise typer.Exit(EXIT_WORSE if worse else 0)


@app.command(
    name="merge",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance merge fetched/* --into results": "what runners recorded, each in a folder of its own",
                "conformance merge a.jsonl b.jsonl --into /tmp/both": "two runs",
            },
            STATUS: {"0": "merged"} | COMMON_STATUS,
        }
    ),
)
def merge_(
    places: Annotated[
        list[Path], typer.Argument(exists=True, help="files of records, and folders that have some in them")
    ],
    into: Annotated[Path, typer.Option(help="the folder", file_okay=False)],
) -> None:
    """Put the records of many runners into one folder, a file for each run.

    What was fetched twice is there once, and of a run that was fetched before its end the longer part is kept. Where
    two files say different things of one run, or something is no record, nothing is written.
    """
    merged = merge.merge(places, into)
    if not merged.written and not merged.known:
        raise typer.BadParameter(f"there is no record in {', '.join(map(str, places))}")
    typer.echo(f"{len(merged.written)} new, {merged.known} known in {into}")
    for file in merged.written:
        typer.echo(f"  {file}")
    for name in merged.twins:
        typer.echo(f"more than one machine is called {name}: give each a --host-name of its own", err=True)


def _recorded(place: Path) -> list[record.Record]:
    records = list(record.read(place))
    if not records:
        raise typer.BadParameter(f"there is no record in {place}")
    return records
