"""Each command has the exit statuses of docs/testing.md."""

import contextlib
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tox.run
import typer.main
from tox.report import HandledError
from typer.testing import CliRunner

from conformance.cli import main, status
from conformance.engine import local_daemon
from conformance.lab import machine, startup
from conformance.util import paths

COMMANDS = sorted(typer.main.get_command(main.app).commands)  # type: ignore[attr-defined]

ON_AN_ENGINE = (["smoke"], ["matrix", "-m", "api"], ["privileges"], ["selfcheck"], ["bench"], ["engine", "true"])


def exit_status(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """Return the status of a whole command line in this process."""
    monkeypatch.setattr("sys.argv", ["conformance", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A socket at which nothing listens any more."""
    path = tmp_path / "docker.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.chdir(tmp_path)
    return str(path)


@pytest.mark.parametrize("words", [[one] for one in COMMANDS if one not in ("matrix", "engine")] + [["lab", "up"], []])
def test_a_bad_option_is_4_everywhere(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_status(monkeypatch, *words, "--no-such-option") == pytest.ExitCode.USAGE_ERROR
    assert CliRunner().invoke(main.app, [*words, "--no-such-option"]).exit_code == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    "words",
    [
        ["metrix"],
        ["matrix", "--no-such-option"],
        ["matrix", "--host", "nowhere"],
        ["matrix", "-n", "0"],
        ["engine"],
        ["modes", "root"],
        ["smoke", "--mode", "root"],
        ["privileges", "--mode", "root"],
        ["selfcheck", "--defect", "none"],
        ["lab", "up", "nowhere"],
        ["lab", "moon"],
        ["diff", "nowhere", "nowhere"],
        ["merge", "nowhere", "--into", "."],
        ["report", "--results", "nowhere"],
        ["jobs", "--missing", "nowhere"],
        ["bench", "--repeat", "0"],
    ],
)
def test_a_bad_name_is_4_everywhere(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_status(monkeypatch, *words) == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("words", [*ON_AN_ENGINE, ["doctor"], ["doctor", "--json"]])
@pytest.mark.usefixtures("closed")
def test_a_closed_socket_is_6_everywhere(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_status(monkeypatch, *words) == status.CANNOT_RUN


def test_a_closed_socket_is_6_for_pytest(closed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "api", "--mode=least", "suites/test_api.py"],
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status.CANNOT_RUN, done.stdout
    assert closed in done.stdout + done.stderr


@pytest.mark.parametrize("words", [*ON_AN_ENGINE, ["lab", "up"]])
def test_an_interruption_is_2_everywhere(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    for owner, name in ((local_daemon, "engine"), (local_daemon, "run"), (startup, "start"), (machine, "running")):
        monkeypatch.setattr(owner, name, interrupted)
    assert exit_status(monkeypatch, *words) == pytest.ExitCode.INTERRUPTED
    assert CliRunner().invoke(main.app, words).exit_code == pytest.ExitCode.INTERRUPTED


def test_the_status_of_an_engines_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_daemon, "run", lambda *_: 130)
    assert exit_status(monkeypatch, "engine", "bash") == 130


def test_a_defect_of_the_harness_is_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main, "app", app)
    assert exit_status(monkeypatch) == pytest.ExitCode.INTERNAL_ERROR
    assert "ZeroDivisionError" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- ./run test


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (0, 0),
        (-1, 1),
        (2, 1),
        (6, 6),
        (5, 5),
        (KeyboardInterrupt(), 2),
        (HandledError("no such environment"), 4),
    ],
)
def test_tox_has_the_same_statuses(
    outcome: int | BaseException, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_words: object) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(tox.run, "main", run)
    assert runpy.run_path(str(paths.PROJECT / "tests" / "run_tox.py"))["main"](["run", "-e", "lint"]) == expected


def test_an_interruption_of_tox_is_2_although_it_reports_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_words: object) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            return -1
        return 0

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(tox.run, "main", run)
    assert runpy.run_path(str(paths.PROJECT / "tests" / "run_tox.py"))["main"](["run"]) == 2
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_bad_option_of_tox_is_4() -> None:
    tox_status = runpy.run_path(str(paths.PROJECT / "tests" / "run_tox.py"))["main"]
    assert tox_status(["run", "--no-such-option"]) == pytest.ExitCode.USAGE_ERROR
