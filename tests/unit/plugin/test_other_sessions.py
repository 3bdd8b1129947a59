"""The plugin in other people's sessions: wherever it is installed, it changes nothing there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.util import paths

FOREIGN = """
import pytest

@pytest.fixture
def mode():
    return "theirs"

@pytest.mark.parametrize("mode", [1, 2])
def test_parameters(mode):
    assert mode in (1, 2)

def test_fixture(mode):
    assert mode == "theirs"
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder with the package alone, as an installation has it."""
    shutil.copytree(paths.PACKAGE, tmp_path / "site" / "conformance", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def run(package: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a folder, where the package is first and no engine answers."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(package), "DOCKER_HOST": "unix:///nowhere/docker.sock"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("checkout", [True, False])
def test_sessions_of_others_run_as_without_it(package: Path, tmp_path: Path, checkout: bool) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "test_theirs.py").write_text(FOREIGN)
    where = paths.PROJECT if checkout else package
    done = run(where, theirs, "-m", "pytest", "-p", "no:cacheprovider", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "deselected" not in done.stdout


def test_an_option_of_ours_needs_a_contract(package: Path, tmp_path: Path) -> None:
    done = run(package, tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "--mode", "least")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "contract.toml" in done.stderr


@pytest.mark.parametrize("words", [["modes"], ["tables"], ["lab", "status"]])
def test_commands_without_a_checkout_say_what_is_missing(package: Path, tmp_path: Path, words: list[str]) -> None:
    done = run(package, tmp_path, "-m", "conformance.cli", *words)
    assert done.returncode in (2, 6)
    assert "Traceback" not in done.stderr
    assert "what to do" in done.stderr


@pytest.mark.parametrize("option", ["--fixtures", "--markers", "--collect-only", "--fixtures-per-test"])
def test_what_only_lists_needs_no_engine(option: str) -> None:
    done = run(paths.PROJECT, paths.PROJECT, "-m", "pytest", "suites/test_api.py", option)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error:" not in done.stdout
    assert {"--fixtures": "guests", "--markers": "pytest.mark.nat"}.get(
        option, "answers_on_the_published"
    ) in done.stdout
