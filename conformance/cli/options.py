"""Options, arguments and output that several commands share."""

import json
from pathlib import Path
from typing import Annotated

import typer

OneHost = Annotated[str | None, typer.Option(metavar="lab[:NAME]", help="a virtual machine")]
Image = Annotated[str | None, typer.Option(metavar="TAG", help="this image; ours is built by default")]


PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For verbs whose words belong to another program, its --help too."""


Records = Annotated[Path, typer.Argument(exists=True, help="a file or a folder of records")]


def echo_json(data: object) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
