"""The plugin in other people's sessions: wherever it is installed, it changes nothing there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from conformance.container.container import READY_SECONDS
from conformance.guests.devices import Firmware
from conformance.model import requirements
from conformance.plugin import fixtures, settings
from conformance.run.context import AccelChoice
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


IMPORTS = """
import sys

def test_imports():
    assert not {"docker", "libvirt", "jinja2", "pydantic", "PIL", "rich", "typer"} & set(sys.modules)
    ours = {name for name in sys.modules if name.partition(".")[0] == "conformance"}
    assert ours == {
        "conformance",
        "conformance.errors",
        "conformance.plugin",
        "conformance.plugin.entry",
        "conformance.plugin.settings",
        "conformance.util",
        "conformance.util.paths",
    }
"""


def test_a_session_of_others_imports_only_the_entry_point(package: Path, tmp_path: Path) -> None:
    (theirs := tmp_path / "theirs").mkdir()
    (theirs / "test_theirs.py").write_text(IMPORTS)
    done = run(package, theirs, "-m", "pytest", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_option_of_another_conftest_keeps_its_name(package: Path, tmp_path: Path) -> None:
    (theirs := tmp_path / "theirs").mkdir()
    (theirs / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--image', default='none')\n"
        "    parser.addoption('--contract', action='store_true')\n"
    )
    (theirs / "test_theirs.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.getoption('--image') == 'cat.png'\n"
        "    assert pytestconfig.getoption('contract') is True\n"
        "    assert pytestconfig.getoption('libvirt_image') == 'libvirt:1'\n"
    )
    words = ["--image", "cat.png", "--contract", "--libvirt-image", "libvirt:1"]
    done = run(package, theirs, "-m", "pytest", "-p", "no:cacheprovider", *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_option_of_a_conftest_deeper_in_the_tree_keeps_its_name(package: Path, tmp_path: Path) -> None:
    (deep := tmp_path / "theirs" / "unit" / "deep").mkdir(parents=True)
    (deep / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--image', default='cat')\n")
    (deep / "test_it.py").write_text(
        "def test_it(pytestconfig):\n    assert pytestconfig.getoption('image') == 'cat'\n"
    )
    done = run(package, tmp_path / "theirs", "-m", "pytest", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


PYARGS = ("-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "conformance.suites")


@pytest.fixture
def installed(package: Path) -> Path:
    """Return the package with its suites and contract."""
    shutil.copytree(paths.SUITES, package / "conformance" / "suites", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.PROJECT / "conftest.py", package / "conformance" / "suites")
    (package / "conformance" / "data").mkdir()
    shutil.copy(paths.CONTRACT, package / "conformance" / "data")
    return package


def test_the_suites_are_a_package_whose_options_are_known(installed: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    words = ["--image", "some/libvirt:tag", "--mode", "least", "-m", "api or nat", "--collect-only", "-q"]
    done = run(installed, empty, *PYARGS, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_api.py::" in done.stdout
    assert "[least]" in done.stdout
    assert "[privileged" not in done.stdout
    assert "test_kvm.py::" not in done.stdout
    assert "pytest.mark.nat" in run(installed, empty, *PYARGS, "--markers").stdout
    assert "peer_network" in run(installed, empty, *PYARGS, "--fixtures").stdout
    unknown = run(installed, empty, *PYARGS, "--mode", "root")
    assert unknown.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unprivileged-hostnet" in unknown.stderr


def test_the_suites_need_a_contract(installed: Path, tmp_path: Path) -> None:
    (installed / "conformance" / "data" / "contract.toml").unlink()
    done = run(installed, tmp_path, *PYARGS)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "contract.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["modes"], ["tables"], ["lab", "status"]])
def test_commands_without_a_checkout_say_what_is_missing(package: Path, tmp_path: Path, words: list[str]) -> None:
    done = run(package, tmp_path, "-m", "conformance.cli", *words)
    assert done.returncode in (4, 6)
    assert "Traceback" not in done.stderr
    assert "what to do" in done.stderr


@pytest.mark.parametrize("places", [(), ("suites",), ("suites/test_api.py",), (".", "--ignore=tests")])
@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--fixtures", "peer_network"),
        ("--markers", "pytest.mark.nat"),
        ("--collect-only", "answers_on_the_published"),
        ("--fixtures-per-test", "answers_on_the_published"),
        ("--help", "--libvirt-image=TAG, --image=TAG"),
    ],
)
def test_options_that_only_list_need_no_engine(places: tuple[str, ...], option: str, shown: str) -> None:
    words = () if option == "--markers" else ("--mode", "least", "-m", "api")
    done = run(paths.PROJECT, paths.PROJECT, "-m", "pytest", *places, option, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error:" not in done.stdout
    assert shown in done.stdout


def test_the_suites_conftest_imports_every_fixture() -> None:
    found = {name for name, value in vars(fixtures).items() if type(value).__name__ == "FixtureFunctionDefinition"}
    assert found == set(fixtures.__all__)
    assert "container" in found


def test_choices_and_defaults_of_options_are_those_of_the_code() -> None:
    assert get_args(Firmware) == settings.FIRMWARE
    assert get_args(AccelChoice) == settings.SETTINGS["accel"].choices
    assert f"default: {READY_SECONDS}" in settings.SETTINGS["ready-seconds"].help
    assert all(ability in settings.SETTINGS["require"].help for ability in requirements.ABILITIES)


def test_suites_without_the_plugin_name_the_remedy(package: Path, tmp_path: Path) -> None:
    done = run(package, tmp_path, "-m", "pytest", "-p", "no:conformance", str(paths.SUITES))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run without -p no:conformance" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
