"""Options, arguments and output that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer

OneHost = Annotated[str | None, typer.Option(metavar="lab[:NAME]", help="run on a virtual machine")]
Image = Annotated[str | None, typer.Option(metavar="TAG", help="test this image, not the project's own")]


PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands that pass their words to another program."""


Records = Annotated[Path, typer.Argument(exists=True, help="a file or a folder of records")]


def echo_json(data: object) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
