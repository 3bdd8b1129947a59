"""``conformance modes``."""

import shutil
import textwrap
from collections.abc import Iterable
from typing import Annotated

import typer

from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import echo_json
from conformance.model import commands, contract, mode
from conformance.report import markdown

LEAST_WIDTH = 20
"""Columns of a text beside its name on the narrowest terminal."""

app = typer.Typer()


def _mode_names() -> list[str]:
    return [one.id for one in contract.load().modes]


@app.command(
    epilog=manual(
        {
            EXAMPLES: {
                "conformance modes": "list all modes",
                "conformance modes least --docker": "the docker run command",
                "conformance modes least --compose --image any:1": "for another image",
            },
            STATUS: {"0": "written"} | COMMON_STATUS,
        }
    )
)
def modes(
    name: Annotated[
        str | None, typer.Argument(help="a mode; lists all modes by default", autocompletion=_mode_names)
    ] = None,
    docker: Annotated[bool, typer.Option("--docker", help="print the docker run command")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="print the Compose file")] = False,
    image: Annotated[str, typer.Option(help="the image's name in the output")] = markdown.IMAGE,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON, with exposures and their documented need")
    ] = False,
) -> None:
    """List the modes, or print the command or Compose file of one."""
    claims = contract.load()
    if as_json:
        if docker or compose:
            raise typer.BadParameter("--json, --docker and --compose exclude each other: choose one")
        listed = [mode.from_contract(claims, one) for one in ([name] if name else _mode_names())]
        echo_json([one.as_json() for one in listed])
        return
    if name is None:
        if docker or compose:
            raise typer.BadParameter("the mode is missing: conformance modes NAME --docker|--compose")
        typer.echo(_columns((one.id, one.summary) for one in claims.modes))
        return
    chosen = mode.from_contract(claims, name)
    if docker and compose:
        raise typer.BadParameter("--docker and --compose exclude each other: choose one")
    if docker:
        typer.echo(commands.script(chosen, image))
    elif compose:
        typer.echo(commands.compose(chosen, image), nl=False)
    else:
        typer.echo(textwrap.fill(f"{chosen.id}: {chosen.summary}", shutil.get_terminal_size().columns))
        exposures = ((markdown.exposure_text(one), f"{one.function} ({one.documented})") for one in chosen.exposures)
        typer.echo(_columns(exposures, indent="  "))


def _columns(rows: Iterable[tuple[str, str]], indent: str = "") -> str:
    """Return names and their texts in two columns, in the width of the terminal."""
    listed = [*rows]
    gap = len(indent) + max(len(name) for name, _ in listed) + 2
    width = max(shutil.get_terminal_size().columns, gap + LEAST_WIDTH)
    return "\n".join(
        textwrap.fill(text, width, initial_indent=f"{indent}{name}".ljust(gap), subsequent_indent=" " * gap)
        for name, text in listed
    )
