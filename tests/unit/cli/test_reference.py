"""The help of the commands, and its copy in docs/commands.md."""

import re

import pytest
import typer.main

from conformance.cli import main, reference
from conformance.util import paths

LINES = 47
"""A screen, and a little more for the list of all commands."""

SECTION = re.compile(r"^## conformance ?([^\n]*)\n\n```text\n(.*?)\n```", re.MULTILINE | re.DOTALL)

HELP = dict(SECTION.findall(reference.text(main.app)))


def test_every_command_has_a_section() -> None:
    root = typer.main.get_command(main.app)
    labs = root.commands["lab"].commands  # type: ignore[attr-defined]
    assert {*HELP} == {"", *root.commands, *(f"lab {name}" for name in labs)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HELP)
def test_help_fits_a_screen_of_80_columns(name: str) -> None:
    lines = HELP[name].splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= reference.WIDTH


def test_help_names_no_path_of_this_machine() -> None:
    assert str(paths.PROJECT) not in "".join(HELP.values())


def test_the_copy_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.text(main.app).count("## conformance") == len(HELP)
    assert HELP["doctor"] in reference.text(main.app)
