"""``conformance mutate``: selection of mutants."""

from pathlib import Path

from typer.testing import CliRunner

from conformance.cli.main import app
from conformance.errors import ContractError


def test_the_list_shows_the_chosen_mutants_with_their_states(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["mutate", "--list", "--file", "config/network.conf", "--results", str(tmp_path)])
    lines = done.output.splitlines()
    assert len(lines) == 2
    assert all("(not run): config/network.conf" in line for line in lines)


def test_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["mutate", "--list", "--kind", "sugar", "--results", str(tmp_path)])
    assert isinstance(done.exception, ContractError)
