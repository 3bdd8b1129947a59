"""``conformance privileges`` and ``conformance selfcheck``: searches that take many starts."""

import os
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import checkout, documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import Image, OneHost
from conformance.cli.target import engine_target
from conformance.container.container import READY_SECONDS
from conformance.lab import definition, machine
from conformance.model import contract
from conformance.privileges import command, configuration
from conformance.selfcheck import change, outcome
from conformance.selfcheck import command as selfchecking
from conformance.util import paths
from conformance.util.progress import Progress

EXIT_NOT_SEEN = 1


app = typer.Typer()


@app.command(
    name="privileges",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance privileges": "the mode unprivileged, every feature",
                "conformance privileges --mode unprivileged-unconfined --host lab": "on a virtual machine with KVM",
                "conformance privileges --feature nat --feature kvm": "two features only, minutes",
                "conformance privileges --mode unprivileged-hostnet --part network-host": "one thing that a mode has",
            },
            FILES: {"results/privileges/": "one record for each start"},
            STATUS: {"0": "nothing is left to ask", "130": "interrupted; the next one goes on from here"}
            | COMMON_STATUS,
        }
    ),
)
def privileges_(
    mode_id: Annotated[str, typer.Option("--mode", metavar="NAME", help="the mode that is searched")] = "unprivileged",
    feature: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="ask this; repeatable; all by default")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="take away this; repeatable; all that the mode has by default"),
    ] = None,
    host: OneHost = None,
    image: Image = None,
    results: Annotated[Path, typer.Option(help="record into this folder")] = configuration.FOLDER,
) -> None:
    """Find out what each feature needs: take away a mode's exposures one at a time, then search for smallest sets.

    Each configuration is started once for all features, and recorded as soon as it was asked; what is recorded of the
    same image on the same host is not asked again, so that an interrupted search goes on where it was. Every removal
    that breaks a feature is tried twice, and then the whole mode once more. Takes an hour or so; progress says how
    much is left at most. Afterwards the tables are written.
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
                "conformance selfcheck": "all of it, a quarter of an hour on two processors",
                "conformance selfcheck --defect no-dnsmasq": "one defect",
                "conformance selfcheck --defect untouched --host lab": "ten times nothing, on a virtual machine",
            },
            FILES: {
                "selfcheck/defects/": "a file for each defect, and who has to notice it",
                "selfcheck/benign/": "a file for each change that makes no difference",
                "results/selfcheck/": "one record for each that was asked",
            },
            STATUS: {
                "0": "every defect was caught, and nothing else gave an alarm",
                "1": "something was missed, caught for a wrong reason, or a false alarm",
            }
            | COMMON_STATUS,
        }
    ),
)
def selfcheck_(
    defect: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="ask about this defect or benign change; repeatable")
    ] = None,
    host: OneHost = None,
    image: Image = None,
    at_once: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, help="ask about so many at once; one for each processor by default"),
    ] = None,
    results: Annotated[Path, typer.Option(help="record into this folder")] = outcome.FOLDER,
) -> None:
    """Prove that the harness can see: break image, modes, media and harness on purpose, and look who notices.

    Each defect goes into a layer over the image, into what the engine is told, into what guests boot from, or into a
    copy of the project. Only who has to notice is asked, and has to name the cause. Benign changes, and the untouched
    image again and again, must give no alarm. Each outcome is recorded at once; what is recorded of the same image on
    the same host, asked by the same suites, is not asked again. Afterwards the tables are written.

    Several are asked about side by side, each by a process of its own; on a virtual machine one after another.
    """
    paths.require_checkout("selfcheck")
    results = results.absolute()
    checkout.enter()
    if host and (at_once or 1) > 1:
        raise typer.BadParameter("-n is for this machine: a virtual one has a single processor")
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
            pci_devices=machine.SPARE if definition_ else (),
            at_once=1 if definition_ else at_once or len(os.sched_getaffinity(0)),
        )
    typer.echo(selfchecking.summary(found))
    if results == outcome.FOLDER:
        documents.refresh()
    if not all(one.result.good for one in found):
        raise typer.Exit(EXIT_NOT_SEEN)
