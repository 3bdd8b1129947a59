"""``conformance lab``: manual control of labs."""

import json
import subprocess
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.errors import LabError
from conformance.lab import DEFINITIONS, definition, disk, machine, pins, startup
from conformance.util import paths
from conformance.util.progress import Progress

app = typer.Typer(
    help="Manage virtual machines with KVM, Docker and AppArmor.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance lab up": "start the default lab; it keeps running",
                "conformance lab ssh debian-13": "a shell in it",
                "conformance matrix --host lab:debian-13": "run the matrix on it",
            },
            STATUS: {"0": "success", "1": "status: no lab is running"} | COMMON_STATUS,
            FILES: {"lab/hosts/": "the recipes of lab hosts"},
        }
    ),
    no_args_is_help=True,
)

Name = Annotated[
    str, typer.Argument(help=f"a lab host: {', '.join(definition.names())}", autocompletion=definition.names)
]


@app.command()
def up(name: Name = definition.DEFAULT) -> None:
    """Start a lab that keeps running; build it first if necessary."""
    host = definition.load(name)
    progress = Progress()
    for gone in (one for one in machine.running() if one.host.name == name and not one.alive):
        gone.stop()
    found = _running_kept(name)
    lab = found[0] if found else startup.start(host, progress, keep=True)
    progress.clear()
    typer.echo(f"{host.name} is up: conformance lab ssh {host.name}; ./run matrix --host lab:{host.name}")
    typer.echo(f"  {lab.accel}; console: {lab.console}")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """List lab hosts and running labs; exit status 1 if no lab is running."""
    if not definition.names():
        raise LabError(
            f"there are no lab hosts: {DEFINITIONS / 'hosts'} has no NAME.toml",
            "run it in a checkout of the project: ./run lab status",
        )
    found = machine.running()
    if as_json:
        typer.echo(json.dumps([_lab_as_json(name, found) for name in definition.names()], indent=2))
    else:
        _list(found)
    if not any(one.alive for one in found):
        raise typer.Exit(1)


def _lab_as_json(name: str, found: Sequence[machine.Machine]) -> dict[str, Any]:
    labs = [
        {
            "state": lab.state(),
            "kept": lab.kept,
            "process": lab.pid,
            "ssh_port": lab.port,
            "accel": lab.accel,
            "console": str(lab.console),
        }
        for lab in found
        if lab.host.name == name
    ]
    return {"name": name, "summary": definition.load(name).summary, "labs": labs}


def _list(found: Sequence[machine.Machine]) -> None:
    width = max(map(len, definition.names())) + 3
    for name in definition.names():
        host = definition.load(name)
        typer.echo(f"{name:<{width}}{host.summary}")
        for lab in (one for one in found if one.host.name == name):
            use = "started with lab up" if lab.kept else "started by a run"
            for line in (
                f"{lab.state()}, {use}, process {lab.pid}, ssh on 127.0.0.1:{lab.port}, {lab.accel}",
                f"console: {lab.console}",
            ):
                typer.echo(" " * width + line)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(context: typer.Context, name: Name = definition.DEFAULT) -> None:
    """Open a shell in a running lab, or run a command in it."""
    lab = _kept_lab(name)
    raise typer.Exit(subprocess.run(lab.ssh(*context.args), check=False).returncode)


@app.command()
def down(name: Annotated[str | None, typer.Argument(help="stop only this lab host")] = None) -> None:
    """Stop the labs of `lab up`, and discard their changes."""
    if name:
        definition.load(name)
    found = [one for one in machine.running() if one.kept and name in (None, one.host.name)]
    for lab in found:
        lab.stop()
        typer.echo(f"{lab.host.name} is down")
    if not found:
        typer.echo("no lab is running")


@app.command()
def rebuild(name: Name = definition.DEFAULT) -> None:
    """Rebuild a lab's disk and saved state."""
    host = definition.load(name)
    if any(one.host.name == name and one.alive for one in machine.running()):
        raise LabError(
            f"the lab {name} is running, and rebuild replaces its disk", f"stop it: conformance lab down {name}"
        )
    startup.require(host, anew=True)
    progress = Progress()
    disk.remove(host, progress)
    startup.start(host, progress).stop()
    progress.clear()
    typer.echo(f"{name} is rebuilt")


@app.command()
def pin(name: Name = definition.DEFAULT) -> None:
    """Pin a lab host's packages to current versions, for maintainers."""
    paths.require_checkout("lab pin")
    progress = Progress()
    count = pins.renew(definition.load(name), progress)
    progress.clear()
    typer.echo(f"pinned {count} packages of {name}")


def _running_kept(name: str) -> list[machine.Machine]:
    return [one for one in machine.running() if one.kept and one.host.name == name and one.state() == "running"]


def _kept_lab(name: str) -> machine.Machine:
    definition.load(name)
    found = _running_kept(name)
    if not found:
        raise LabError(f"the lab {name} is not running", f"start it: conformance lab up {name}")
    return found[0]
