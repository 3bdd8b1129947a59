"""The help of every command as text of 80 columns: docs/commands.md, from which ``./run COMMAND --help`` prints."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import typer.main

WIDTH = 80

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
"""Colours, which rich writes in some environments although the output is no terminal."""


def text(app: typer.Typer) -> str:
    """Return a section with the help of each command, groups before their members."""
    root = typer.main.get_command(app)
    return "\n\n".join(
        f"## {' '.join(['conformance', *words])}\n\n```text\n{_help(root, words)}\n```" for words in _commands(root)
    )


def _commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of all below it; the commands' types are private to typer."""
    yield words
    for name, member in getattr(command, "commands", {}).items():
        yield from _commands(member, *words, name)


def _help(root: Any, words: tuple[str, ...]) -> str:
    with _columns(), contextlib.redirect_stdout(io.StringIO()) as printed:
        root.main([*words, "--help"], prog_name="conformance", standalone_mode=False)
    lines = [line.rstrip() for line in ESCAPES.sub("", printed.getvalue()).strip().splitlines()]
    return "\n".join(line.removeprefix(" ") for line in lines)


@contextlib.contextmanager
def _columns() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
