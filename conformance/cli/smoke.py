"""``conformance smoke``."""

import contextlib
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import checkout, documents, status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import Image, OneHost
from conformance.cli.target import engine_target
from conformance.container.container import READY_SECONDS
from conformance.doctor import terminal as doctor
from conformance.engine.docker_context import address
from conformance.lab import definition, machine
from conformance.model import contract, mode
from conformance.plugin.settings import SETTINGS
from conformance.plugin.state import EXIT_NOTHING_DECIDED
from conformance.report import smoke
from conformance.run import preparation
from conformance.run.context import Run
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.workers import sessions
from conformance.workers.hosts import colored

PROFILE = "smoke"

MAX_WIDTH = 100

LIKE_THE_LAB = f"Start it on a host like the virtual machine, after {paths.COMMAND} smoke there:"

app = typer.Typer()


@app.command(
    name="smoke",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance smoke": "the recommended mode of this host",
                "conformance smoke --mode privileged": "another mode",
                "conformance smoke --host lab": "on a virtual machine with KVM",
            },
            STATUS: {"0, 1, 5": "nothing fails; a feature fails; nothing can be tested here"} | COMMON_STATUS,
            FILES: {"artefacts/RUN/": "the run's log, records and report.html"},
        }
    ),
)
def smoke_(
    mode_id: Annotated[
        str | None, typer.Option("--mode", metavar="NAME", help="test this mode; default: the one recommended here")
    ] = None,
    host: OneHost = None,
    image: Image = None,
) -> None:
    """Test the essentials in the mode for this host, in a minute.

    The container answers for API, exposed paths, volumes, default network
    and pool, one guest for KVM, UEFI, disk, network and NAT. The end names
    the command that starts the image here, and the next test. The first
    run also builds image and boot media, in minutes.
    """
    caller = Path.cwd()
    checkout.enter()
    claims = contract.load()
    if mode_id:
        claims.mode(mode_id)  # an unknown name ends the command before an engine starts
    progress = Progress()
    definition_ = definition.named(host) if host else None
    with engine_target(definition_) as place:
        private = definition_ is None and place.address != address()[0]
        os.environ["DOCKER_HOST"] = place.address
        with contextlib.closing(
            preparation.prepare(
                claims,
                progress,
                tag=image,
                choice="auto",
                results=None,
                host_name=place.name,
                host_facts=place.facts,
                ready_seconds=machine.READY_SECONDS if definition_ else READY_SECONDS,
                minimise_boots=True,
            )
        ) as run:
            chosen = mode_id or claims.modes_of(claims.profile(PROFILE), run.host.security)[0]
            exit_status = _test(run, chosen, progress)
            progress(f"{chosen}: cleaning up")
    progress.clear()
    os.chdir(caller)  # the commands below name files relative to it
    where = LIKE_THE_LAB if definition_ else doctor.ON_PRIVATE if private else ""
    for line in _conclusion(run, chosen, exit_status, where):
        typer.echo(line)
    raise typer.Exit(exit_status)


def _test(run: Run, mode_id: str, progress: Progress) -> int:
    """Run the checks; return the command's exit status."""
    words = [f"{SETTINGS['profile'].option}={PROFILE}", f"{SETTINGS['mode'].option}={mode_id}"]
    try:
        records = sessions.run_within(
            run,
            [*paths.TESTS, *words, "--capture=sys"],  # stderr itself stays free for the progress
            announce=lambda check, number, all_: progress(
                f"{mode_id}: check {number} of {all_}: {check.feature.title}"
            ),
        )
    except KeyboardInterrupt:
        return status.INTERRUPTED
    if any(one.verdict.bad for one in records):
        return status.FAILED
    return 0 if any(one.verdict.decided for one in records) else EXIT_NOTHING_DECIDED


def _conclusion(run: Run, chosen: str, exit_status: int, where: str) -> Iterator[str]:
    """Yield the lines of the end: the table, the command that starts the image, the next test, and the evidence.

    Args:
        run: the run, with its records.
        chosen: the id of the tested mode.
        exit_status: the command's.
        where: how to start the image elsewhere, if the engine is none of this host's user.
    """
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    interrupted = exit_status == status.INTERRUPTED
    records = run.recorder.records
    rows = smoke.rows(run.contract, records)
    how = ", interrupted" if interrupted else ""
    yield f"{run.host_name}, mode {chosen}{how}: {smoke.summary(rows) or 'no check ended'}"
    yield ""
    if rows:
        yield from (smoke.draw(rows, width=width, color=colored()), "")
    if interrupted:
        yield f"Repeat it: {paths.COMMAND} smoke --mode {chosen}"
    elif exit_status == 0:
        yield "The image works here."
        yield from textwrap.wrap(where or "Start it on this host:", width)
        yield from (
            "",
            doctor.command(mode.for_host(run.contract, chosen, kvm=run.kvm.usable), width, run.image.tag),
            "",
        )
        yield f"Next, all checks of every feature: {paths.COMMAND} matrix --mode {chosen}"
    else:
        problem = "does not work" if exit_status == status.FAILED else "cannot be tested"
        yield f"The image {problem} here in mode {chosen}."
        yield f"Next, what this host lacks, and the mode to use: {paths.COMMAND} doctor"
    folder = run.recorder.path.parent
    yield f"Evidence: {documents.write_report(run.contract, folder) if records else folder}"
