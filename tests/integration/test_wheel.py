"""The package in a fresh environment, used from an empty folder: commands, suites, and other people's sessions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from conformance.engine import client, image
from conformance.util import paths

pytestmark = pytest.mark.timeout(600)

NOWHERE = "unix:///nowhere/docker.sock"

PACKED = {"suites": "suites", "image": "data/image", "fixtures/isos": "data/fixtures/isos", "lab": "data/lab"}
"""Folders of the repository, and their places in the package."""

FOREIGN = """
import sys

def test_nothing_of_the_package_is_loaded_but_its_plugin():
    heavy = {"docker", "libvirt", "jinja2", "PIL", "pycdlib"} & set(sys.modules)
    assert not heavy
"""


class Installation:
    """A fresh environment that holds the wheel."""

    def __init__(self, folder: Path) -> None:
        pip = ("install", "--quiet", "--disable-pip-version-check", "--constraint", paths.PROJECT / "constraints.txt")
        self._folder = folder / "environment"
        build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, paths.PROJECT)
        subprocess.run(build, check=True, timeout=300)
        (self.wheel,) = folder.glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", self._folder], check=True, timeout=120)
        subprocess.run([self._folder / "bin" / "pip", *pip, self.wheel], check=True, timeout=300)

    def run(self, folder: Path, program: str, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment in a folder; nothing of the caller's Python reaches it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self._folder / "bin" / program, *words],
            cwd=folder,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_repositorys_data(installed: Installation) -> None:
    with ZipFile(installed.wheel) as wheel:
        held = {info.filename: info.external_attr >> 16 for info in wheel.infolist()}
    for folder, place in PACKED.items():
        for path in (paths.PROJECT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                packed = f"conformance/{place}/{path.relative_to(paths.PROJECT / folder)}"
                assert packed in held
                assert bool(held[packed] & 0o100) == os.access(path, os.X_OK), f"{packed}: an executable stays one"
    assert "conformance/data/contract.toml" in held


def test_sessions_of_others_load_nothing(installed: Installation, tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(FOREIGN)
    done = installed.run(tmp_path, "pytest", "-q", DOCKER_HOST=NOWHERE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout


@pytest.mark.parametrize("option", ["--collect-only", "--fixtures", "--markers"])
def test_listing_needs_no_engine(installed: Installation, tmp_path: Path, option: str) -> None:
    done = installed.run(tmp_path, "pytest", "--pyargs", "conformance.suites", option, DOCKER_HOST=NOWHERE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("words", [("modes",), ("matrix", "--collect-only", "-q")])
def test_commands_read_the_packed_contract(installed: Installation, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = installed.run(tmp_path, "conformance", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", ["tables", "jobs", "mutate", "selfcheck", "bench"])
def test_commands_on_the_repository_say_that_there_is_none(
    installed: Installation, tmp_path: Path, command: str
) -> None:
    done = installed.run(tmp_path, "conformance", command, DOCKER_HOST=NOWHERE)
    assert done.returncode == 6, done.stdout + done.stderr
    assert "repository" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_image_is_judged_from_an_empty_folder(installed: Installation, tmp_path: Path) -> None:
    tag = image.ensure_image(client.connect(), lambda _text: None).tag
    confined = "apparmor" in client.connect().fingerprint().security
    mode = "unprivileged-unconfined" if confined else "unprivileged"
    words = ("--pyargs", "conformance.suites", "-m", "api", "--mode", mode, "--image", tag)
    done = installed.run(tmp_path, "pytest", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (records,) = (tmp_path / "artefacts").glob("*/*.jsonl")
    assert {json.loads(line)["verdict"] for line in records.read_text().splitlines()} == {"works"}
