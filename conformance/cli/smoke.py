"""``conformance smoke``."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import checkout, documents, status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import Image, OneHost
from conformance.cli.target import engine_target
from conformance.container.container import READY_SECONDS
from conformance.doctor import terminal as doctor
from conformance.engine import image as image_
from conformance.lab import definition, machine
from conformance.model import contract, mode
from conformance.model.record import Record
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

KVM = "dev-kvm"
"""The exposure of /dev/kvm, without which the engine starts the container on every host."""

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
            records = _test(run, chosen, progress)
            progress(f"{chosen}: cleaning up")
    progress.clear()
    os.chdir(caller)  # the commands below name files relative to it
    for line in _conclusion(run, chosen, records):
        typer.echo(line)
    raise typer.Exit(_status(records))


def _test(run: Run, mode_id: str, progress: Progress) -> list[Record]:
    words = [f"{SETTINGS['profile'].option}={PROFILE}", f"{SETTINGS['mode'].option}={mode_id}"]
    return sessions.run_within(
        run,
        [*paths.TESTS, *words, "--capture=sys"],  # stderr itself stays free for the progress
        announce=lambda check, number, all_: progress(f"{mode_id}: check {number} of {all_}: {check.feature.title}"),
    )


def _status(records: Sequence[Record]) -> int:
    if any(one.verdict.bad for one in records):
        return status.FAILED
    return 0 if any(one.verdict.decided for one in records) else EXIT_NOTHING_DECIDED


def _conclusion(run: Run, chosen: str, records: Sequence[Record]) -> Iterator[str]:
    """Yield the lines of the end: the table, the recommended command, the next test, and the evidence."""
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    found = _status(records)
    rows = smoke.rows(run.contract, records)
    yield f"{run.host_name}, mode {chosen}: {smoke.summary(rows)}"
    yield ""
    yield smoke.draw(rows, width=width, color=colored())
    yield ""
    if found == 0:
        yield "The image works here. Start it on this host:"
        yield ""
        yield from _commands(run, chosen, width)
        yield ""
        yield f"Next, all checks of every feature: {paths.COMMAND} matrix --mode {chosen}"
    else:
        yield f"The image {'does not work' if found == status.FAILED else 'cannot be tested'} here in mode {chosen}."
        yield f"Next, what this host lacks, and the mode to use: {paths.COMMAND} doctor"
    yield f"Evidence: {documents.write_report(run.contract, run.recorder.path.parent)}"


def _commands(run: Run, chosen: str, width: int) -> Iterator[str]:
    """Yield the shell commands that build the image, if it is the project's own, and start it."""
    lacking = [KVM] if KVM in run.contract.mode(chosen).exposures and not run.kvm.usable else []
    made = mode.from_contract(run.contract, chosen, lacking)
    if run.image.tag == image_.TAG:
        yield doctor.build_command()
    yield doctor.command(made, width, run.image.tag)
