"""The version is in one place, pyproject.toml."""

import tomllib

from typer.testing import CliRunner

from conformance.cli import main
from conformance.util import paths


def test_the_command_prints_the_version_of_the_project() -> None:
    project = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]

    result = CliRunner().invoke(main.app, ["--version"])

    assert result.exit_code == 0
    assert result.stdout == f"conformance {project['version']}\n"
