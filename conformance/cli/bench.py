"""``conformance bench``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from conformance.bench import measure
from conformance.cli import documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.engine import local_daemon
from conformance.util import paths
from conformance.util.progress import Progress

app = typer.Typer()


@app.command(
    name="bench",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance bench": "all, minutes",
                "conformance bench --only engine --results /tmp/b": "one part, kept out of the documented results",
                "conformance bench --render": "write the newest result's table again",
            },
            STATUS: {"0": "measured"} | COMMON_STATUS,
        }
    ),
)
def bench_(
    repeat: Annotated[int, typer.Option(min=1, help="how often to repeat what is short")] = 5,
    matrices: Annotated[
        int, typer.Option(min=0, help="how often to run what takes minutes: the matrix in one mode, two modes at once")
    ] = 1,
    results: Annotated[Path, typer.Option(help="write the result into this folder")] = paths.BENCH,
    host_name: Annotated[str | None, typer.Option(help="what the result calls this host")] = None,
    only: Annotated[
        measure.Part | None, typer.Option(help="measure only this; extra: what the options beside it ask for")
    ] = None,
    lab_build: Annotated[bool, typer.Option("--lab-build", help="measure a lab's first build too; minutes")] = False,
    lab_boots: Annotated[
        int, typer.Option(min=0, metavar="N", help="boot N guests in a row under a lab's KVM too; half a minute each")
    ] = 0,
    render: Annotated[bool, typer.Option("--render", help="measure nothing; write the table")] = False,
    document: Annotated[Path, typer.Option(help="the document with the table")] = paths.PERFORMANCE,
) -> None:
    """Measure what the image and the harness cost beside targets, record it, and write docs/performance.md's table.

    Container start, domain start, a probe guest through libvirt beside the same one under bare QEMU, and the matrix
    in one mode as ./run runs it: what its time goes into, its first container, its guests, its memory. Two modes one
    after the other and side by side. A lab: its starts, its disk, its memory, and what it takes while it is idle.
    Leave the machine alone meanwhile. Where no engine answers, a private one is started, and stopped at the end.
    """
    paths.require_checkout("bench")
    if not render:
        progress = Progress()
        with local_daemon.engine(progress) as host:
            os.environ["DOCKER_HOST"] = host
            measured = measure.measure(
                progress,
                repeat=repeat,
                matrices=matrices,
                host_name=host_name,
                only=only,
                lab_build=lab_build,
                lab_boots=lab_boots,
            )
        progress.clear()
        typer.echo(f"recorded {measured.write(results).name}")
    measurements = measure.read(results)
    documents.update(document, lambda before: measure.render(before, measurements))
    typer.echo(measure.performance(measurements))
