"""``conformance bench``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from conformance.bench import measure, result, table
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
                "conformance bench": "all measurements; takes minutes",
                "conformance bench --only engine": "one part",
                "conformance bench --render": "only the newest result's table",
            },
            STATUS: {"0": "measured"} | COMMON_STATUS,
        }
    ),
)
def bench_(
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="repetitions of short measurements")] = 5,
    matrices: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="runs of the matrix in one mode, and of two modes in parallel"),
    ] = 1,
    results: Annotated[
        Path, typer.Option(help="write the result to this folder", show_default="results/bench")
    ] = paths.BENCH,
    host_name: Annotated[str | None, typer.Option(metavar="NAME", help="the name of this host in the result")] = None,
    only: Annotated[
        measure.Part | None,
        typer.Option(metavar="PART", help="engine, parallel, lab, or extra: --lab-build, --lab-boots"),
    ] = None,
    lab_build: Annotated[bool, typer.Option("--lab-build", help="also measure a lab's first build (minutes)")] = False,
    lab_boots: Annotated[int, typer.Option(min=0, metavar="N", help="also boot N guests under a lab's KVM")] = 0,
    render: Annotated[bool, typer.Option("--render", help="only write the table")] = False,
    document: Annotated[
        Path, typer.Option(help="the document with the table", show_default="docs/performance.md")
    ] = paths.PERFORMANCE,
) -> None:
    """Measure image and harness, and write the table of results.

    It measures the start of containers and domains, a probe guest under
    libvirt and under bare QEMU, and the matrix in one mode (time by
    activity, first container, guests, memory), then in two modes,
    sequentially and in parallel. Of a lab it measures starts, disk, memory
    and idle load. Other work on the machine makes the numbers worse. If no
    engine answers, a private one starts, and stops at the end.
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
    measurements = result.read(results)
    documents.update(document, lambda before: table.render(before, measurements))
    typer.echo(table.performance(measurements))
