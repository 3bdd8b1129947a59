"""``conformance mutate``: small defects, derived from the image, that the suites must notice."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import checkout, documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import Image, OneHost
from conformance.cli.target import engine_target
from conformance.lab import definition
from conformance.mutation import catalogue, command, concern, image_source, observation, outcome, score
from conformance.util import paths
from conformance.util.progress import Progress

app = typer.Typer()


@app.command(
    name="mutate",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance mutate --time-limit 60": "a sample",
                "conformance mutate --file lib/daemon.bash": "one file's mutants",
                "conformance mutate --changed-since main": "those of a change",
            },
            FILES: {
                "selfcheck/mutation.toml": "the checks of mutants; equivalent mutants",
                "selfcheck/observed.json": "the image at run time, from --inspect",
            },
            STATUS: {"0": "the mutants were tested"} | COMMON_STATUS,
        }
    ),
)
def mutate_(
    mutant: Annotated[list[str] | None, typer.Option(metavar="ID", help="test this one; repeatable")] = None,
    kind: Annotated[list[str] | None, typer.Option(metavar="KIND", help="test this kind; repeatable")] = None,
    file: Annotated[list[str] | None, typer.Option(metavar="PATH", help="of this file of image/; repeatable")] = None,
    changed_since: Annotated[
        str | None, typer.Option(metavar="REF", help="those that the commit does not have")
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="list them, and test nothing")] = False,
    inspect: Annotated[bool, typer.Option("--inspect", help="only observe the image at run time")] = False,
    time_limit: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0, help="begin no mutant after that")
    ] = None,
    host: OneHost = None,
    image: Image = None,
    at_once: Annotated[
        int | None, typer.Option("-n", "--jobs", metavar="N", min=1, help="mutants to test in parallel")
    ] = None,
    results: Annotated[
        Path, typer.Option(help="write records to this folder", show_default="results/mutation")
    ] = outcome.FOLDER,
) -> None:
    """Measure how many small defects of the image are noticed.

    Each mutant is one change, derived from the image's files or from its
    behaviour at run time. The checks that have to do with it run in one
    container until one fails: the mutant is killed. Otherwise it survives.
    Mutants run in an order that mixes all kinds, and are recorded at once;
    those on record for the same checks and host do not run again.
    """
    paths.require_checkout("mutate")
    results = results.absolute()
    checkout.enter()
    if inspect:
        with engine_target(None) as place:
            os.environ["DOCKER_HOST"] = place.address
            command.inspect(Progress(), tag=image, host_name=place.name)
        return
    files, observed, concerns = image_source.read(), observation.load(), concern.load()
    known = catalogue.mutants(files, observed)
    before = (
        {one.id for one in catalogue.mutants(image_source.read_revision(changed_since), observed)}
        if changed_since
        else ()
    )
    wanted = catalogue.chosen(known, ids=mutant or (), kinds=kind or (), files=file or (), before=before)
    if list_only:
        outcomes = outcome.read(results)
        for one in wanted:
            typer.echo(f"{one.id} ({score.state(one, files, concerns, observed, outcomes)}): {one.sentence}")
        return
    definition_ = definition.named(host) if host else None
    with engine_target(definition_) as place:
        os.environ["DOCKER_HOST"] = place.address
        found = command.mutate(
            wanted,
            Progress(),
            folder=results,
            tag=image,
            host_name=place.name,
            host_facts=place.facts,
            at_once=1 if definition_ else at_once or len(os.sched_getaffinity(0)),
            deadline=time.time() + 60 * time_limit if time_limit is not None else None,
        )
    typer.echo(command.summary(wanted, found))
    if results == outcome.FOLDER:
        documents.refresh()
