"""``conformance privileges`` and ``conformance selfcheck``: searches that start many containers."""

import os
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import checkout, documents, status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import Image, OneHost
from conformance.cli.target import engine_target
from conformance.container.container import READY_SECONDS
from conformance.lab import definition, machine, qemu_command
from conformance.model import contract
from conformance.privileges import command, configuration
from conformance.selfcheck import change, outcome
from conformance.selfcheck import command as selfchecking
from conformance.util import paths
from conformance.util.progress import Progress

app = typer.Typer()


@app.command(
    name="privileges",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance privileges": "the mode unprivileged, all features",
                "conformance privileges --host lab": "on a virtual machine with KVM",
                "conformance privileges --feature nat": "one feature; takes minutes",
            },
            FILES: {"results/privileges/": "a record for each start"},
            STATUS: {"0": "the search is complete"} | COMMON_STATUS | {"2": "interrupted; the next search continues"},
        }
    ),
)
def privileges_(
    mode_id: Annotated[str, typer.Option("--mode", metavar="NAME", help="search this mode")] = "unprivileged",
    feature: Annotated[list[str] | None, typer.Option(metavar="ID", help="search for this feature; repeatable")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="try to remove only this; repeatable"),
    ] = None,
    host: OneHost = None,
    image: Image = None,
    results: Annotated[
        Path, typer.Option(help="write records to this folder", show_default="results/privileges")
    ] = configuration.FOLDER,
) -> None:
    """Find the exposures that each feature needs, by removing them.

    It removes exposures one at a time, then searches for smallest sets.
    Each configuration starts once for all features and is recorded at once.
    Configurations on record for the same image and host do not start again,
    so an interrupted search continues where it stopped. A removal that
    breaks a feature is tried twice, and then the whole mode once more. It
    takes about an hour; the progress line shows the largest number of
    starts left. The tables are written at the end.
    """
    results = results.absolute()
    checkout.enter()
    command.require(contract.load(), mode_id, feature or (), part or ())
    definition_ = definition.named(host) if host else None
    with engine_target(definition_) as place:
        os.environ["DOCKER_HOST"] = place.address
        found, known = command.search(
            mode_id,
            Progress(),
            features=feature or (),
            parts=part or (),
            folder=results,
            tag=image,
            host_name=place.name,
            host_facts=place.facts,
            ready_seconds=machine.READY_SECONDS if definition_ else READY_SECONDS,
        )
    typer.echo(command.summary(found, known))
    if results == configuration.FOLDER:
        documents.refresh()


@app.command(
    name="selfcheck",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance selfcheck": "all; 15 minutes",
                "conformance selfcheck --defect no-dnsmasq": "one defect",
                "conformance selfcheck --defect untouched": "ten unchanged runs",
            },
            FILES: {
                "selfcheck/defects/": "defects, and the checks that must catch them",
                "selfcheck/benign/": "harmless changes",
                "results/selfcheck/": "a record for each tested defect or change",
            },
            STATUS: {
                "0": "all defects were caught, without false alarms",
                "1": "a defect was missed or misunderstood, or a false alarm",
            }
            | COMMON_STATUS,
        }
    ),
)
def selfcheck_(
    defect: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="test this defect or benign change; repeatable")
    ] = None,
    host: OneHost = None,
    image: Image = None,
    at_once: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, help="number of defects to test in parallel"),
    ] = None,
    results: Annotated[
        Path, typer.Option(help="write records to this folder", show_default="results/selfcheck")
    ] = outcome.FOLDER,
) -> None:
    """Test the harness itself with defects made on purpose.

    Each defect changes the image (an extra layer), the engine call, the
    boot media, or a copy of the project. Only the checks that must catch it
    run, and they must report the cause. Benign changes and repeated runs of
    the unchanged image must not fail any check. Each outcome is recorded at
    once; outcomes on record for the same image, host and suites are not
    tested again. The tables are written at the end.
    """
    paths.require_checkout("selfcheck")
    results = results.absolute()
    checkout.enter()
    if host and (at_once or 1) > 1:
        raise typer.BadParameter("-n does not work with --host: the virtual machine has a single processor")
    wanted = change.chosen(change.load(), defect or ())
    definition_ = definition.named(host) if host else None
    with engine_target(definition_) as place:
        os.environ["DOCKER_HOST"] = place.address
        found = selfchecking.selfcheck(
            wanted,
            Progress(),
            folder=results,
            tag=image,
            host_name=place.name,
            host_facts=place.facts,
            ready_seconds=machine.READY_SECONDS if definition_ else READY_SECONDS,
            pci_devices=qemu_command.SPARE if definition_ else (),
            at_once=1 if definition_ else at_once or len(os.sched_getaffinity(0)),
        )
    typer.echo(selfchecking.summary(found))
    if results == outcome.FOLDER:
        documents.refresh()
    if not all(one.result.good for one in found):
        raise typer.Exit(status.FAILED)
