"""``conformance lab`` and ``--host lab``, with simulated machines."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.cli import main, status
from conformance.engine import local_daemon
from conformance.errors import ContractError, LabError
from conformance.lab import definition, disk, machine, packages, pins, startup
from conformance.plugin.state import EXIT_CANNOT_RUN

runner = CliRunner()


class Lab:
    """A simulated running lab."""

    def __init__(self, name: str = "debian-13", *, kept: bool = True, state: str = "running") -> None:
        self.host = definition.load(name)
        self.kept = kept
        self.pid, self.port = 4711, 10022
        self.accel = "emulation (TCG), QEMU 7"
        self.console = Path("/run/console.log")
        self.stopped = 0
        self._state = state

    @property
    def alive(self) -> bool:
        return self._state != "ended"

    def state(self) -> str:
        return self._state

    def ssh(self, *command: str) -> list[str]:
        return ["sh", "-c", f"echo to {self.host.name}: {' '.join(command)}; exit 7"]

    def stop(self) -> None:
        self.stopped += 1


Labs = Callable[..., list[Lab]]


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Labs:
    """Say which labs run."""

    def run(*found: Lab) -> list[Lab]:
        monkeypatch.setattr(machine, "running", lambda: list(found))
        return list(found)

    return run


@pytest.fixture
def started(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Lab, bool]]:
    """The labs that are started, and whether they stay; none runs before."""
    labs()
    made: list[tuple[Lab, bool]] = []

    def start(host: definition.Host, _progress: object, *, keep: bool = False) -> Lab:
        made.append((Lab(host.name), keep))
        return made[-1][0]

    monkeypatch.setattr(startup, "start", start)
    return made


def test_up_starts_one_that_stays(started: list[tuple[Lab, bool]]) -> None:
    done = runner.invoke(main.app, ["lab", "up"])
    assert done.exit_code == 0
    assert "debian-13 is up" in done.output
    assert "./run matrix --host lab:debian-13" in done.output
    assert [(lab.host.name, keep) for lab, keep in started] == [("debian-13", True)]
    assert runner.invoke(main.app, ["lab", "up", "debian-12"]).exit_code == 0
    assert started[1][0].host.name == "debian-12"


def test_up_uses_a_running_lab(started: list[tuple[Lab, bool]], labs: Labs) -> None:
    labs(Lab())
    done = runner.invoke(main.app, ["lab", "up"])
    assert "debian-13 is up" in done.output
    assert "console: /run/console.log" in done.output
    assert not started


def test_up_takes_away_one_that_has_ended(started: list[tuple[Lab, bool]], labs: Labs) -> None:
    gone, other = labs(Lab(state="ended"), Lab("debian-12", state="ended"))
    assert runner.invoke(main.app, ["lab", "up"]).exit_code == 0
    assert (gone.stopped, other.stopped, len(started)) == (1, 0, 1)


@pytest.mark.parametrize("other", [Lab("debian-12"), Lab(kept=False), Lab(state="hung")])
def test_up_does_not_use_another_one(started: list[tuple[Lab, bool]], labs: Labs, other: Lab) -> None:
    labs(other)
    runner.invoke(main.app, ["lab", "up"])
    assert len(started) == 1


def test_status_lists_hosts_and_running_labs(labs: Labs) -> None:
    labs(Lab(), Lab("debian-12", kept=False, state="hung"))
    done = runner.invoke(main.app, ["lab", "status"])
    assert done.exit_code == 0
    older, hung, console, newer, running, *_ = done.output.splitlines()
    assert older.split()[:3] == ["debian-12", "Debian", "12,"]
    assert newer.split()[:3] == ["debian-13", "Debian", "13,"]
    assert running.strip().startswith(
        "running, started with lab up, process 4711, ssh on 127.0.0.1:10022, emulation (TCG)"
    )
    assert hung.strip().startswith("hung, started by a run, process 4711")
    assert console.strip() == "console: /run/console.log"


@pytest.mark.parametrize("found", [[], [Lab(state="ended")]])
def test_status_fails_if_no_lab_runs(labs: Labs, found: list[Lab]) -> None:
    labs(*found)
    done = runner.invoke(main.app, ["lab", "status"])
    assert done.exit_code == 1
    assert "Debian 13" in done.output
    assert ("ended, " in done.output) == bool(found)


def test_ssh_passes_options_and_exit_status_on(labs: Labs, capfd: pytest.CaptureFixture[str]) -> None:
    labs(Lab(), Lab("debian-12"))
    assert runner.invoke(main.app, ["lab", "ssh", "debian-12", "docker", "ps", "--all"]).exit_code == 7
    assert capfd.readouterr().out == "to debian-12: docker ps --all\n"


@pytest.mark.parametrize("found", [[], [Lab("debian-12")], [Lab(kept=False)], [Lab(state="ended")]])
def test_ssh_to_one_that_is_not_up(labs: Labs, found: list[Lab]) -> None:
    labs(*found)
    with pytest.raises(LabError, match="the lab debian-13 is not running") as caught:
        runner.invoke(main.app, ["lab", "ssh"], catch_exceptions=False)
    assert caught.value.remedy.endswith("conformance lab up debian-13")


def test_down_stops_kept_labs_but_not_those_of_runs(labs: Labs) -> None:
    kept, other, of_a_run = labs(Lab(), Lab("debian-12", state="hung"), Lab(kept=False))
    assert runner.invoke(main.app, ["lab", "down", "debian-13"]).output == "debian-13 is down\n"
    assert (kept.stopped, other.stopped, of_a_run.stopped) == (1, 0, 0)
    assert runner.invoke(main.app, ["lab", "down"]).output == "debian-13 is down\ndebian-12 is down\n"
    assert (kept.stopped, other.stopped, of_a_run.stopped) == (2, 1, 0)


def test_down_where_nothing_is_up(labs: Labs) -> None:
    labs()
    done = runner.invoke(main.app, ["lab", "down"])
    assert (done.exit_code, done.output) == (0, "no lab is running\n")


def test_rebuild_removes_makes_and_ends(started: list[tuple[Lab, bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(disk, "remove", lambda host, _: removed.append(host.name))
    monkeypatch.setattr(startup, "require", lambda *_, **__: None)
    done = runner.invoke(main.app, ["lab", "rebuild", "debian-12"])
    assert done.exit_code == 0
    assert done.output.endswith("debian-12 is rebuilt\n")
    assert removed == ["debian-12"]
    assert [(lab.stopped, keep) for lab, keep in started] == [(1, False)]


@pytest.mark.parametrize("kept", [True, False])
def test_rebuild_does_not_pull_the_disk_from_under_one(labs: Labs, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    labs(Lab(kept=kept))
    monkeypatch.setattr(disk, "remove", pytest.fail)
    with pytest.raises(LabError, match="the lab debian-13 is running"):
        runner.invoke(main.app, ["lab", "rebuild"], catch_exceptions=False)


def test_rebuild_keeps_the_disk_if_it_cannot_build_another(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(*purposes: str) -> None:
        assert {"start", "disk"} <= set(purposes)
        raise LabError("not installed")

    labs()
    monkeypatch.setattr(packages, "require", require)
    monkeypatch.setattr(disk, "remove", pytest.fail)
    with pytest.raises(LabError, match="not installed"):
        runner.invoke(main.app, ["lab", "rebuild"], catch_exceptions=False)


def test_pin_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "renew", lambda host, _: 42)
    assert runner.invoke(main.app, ["lab", "pin"]).output == "pinned 42 packages of debian-13\n"


@pytest.mark.parametrize("verb", ["up", "ssh", "down", "rebuild", "pin"])
def test_each_command_rejects_an_unknown_lab(verb: str, labs: Labs) -> None:
    labs()
    with pytest.raises(ContractError, match="no lab host is called 'nosuch'"):
        runner.invoke(main.app, ["lab", verb, "nosuch"], catch_exceptions=False)


# ------------------------------------------------------------------------------------------------- as a whole


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["conformance", *words])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("host", ["nosuch", "lab:nosuch"])
def test_a_matrix_on_a_host_that_does_not_exist_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    monkeypatch.setattr(startup, "start", pytest.fail)
    monkeypatch.setattr(local_daemon, "engine", pytest.fail)
    assert ended(monkeypatch, "matrix", "--host", host) == status.USAGE
    said = capsys.readouterr().err
    assert "nosuch" in said
    assert "debian-12" in said
    assert "debian-13" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("words", [["--mode", "root"], ["--no-such-option"]])
def test_a_bad_option_ends_before_a_lab_starts(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(startup, "start", pytest.fail)
    done = runner.invoke(main.app, ["matrix", "--host", "lab", *words])
    assert done.exit_code == pytest.ExitCode.USAGE_ERROR


def test_a_lab_that_breaks_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], labs: Labs
) -> None:
    def broken(*_: object, **__: object) -> Lab:
        raise LabError("the lab debian-13 did not start", "read it")

    labs()
    monkeypatch.setattr(startup, "start", broken)
    assert ended(monkeypatch, "lab", "up") == EXIT_CANNOT_RUN
    assert capsys.readouterr().err == "error: the lab debian-13 did not start\n  what to do: read it\n"


def test_a_terminal_that_is_closed_ends_it_as_ctrl_c_does() -> None:
    code = (
        "import os, signal, sys; from conformance.cli import main; from conformance.lab import machine, startup\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "def start(*_, **__):\n"
        "    try: os.kill(os.getpid(), signal.SIGHUP); signal.pause()\n"
        "    finally: print('cleaned up', flush=True)\n"
        "startup.start = start; machine.running = list\n"
        "sys.argv = ['conformance', 'lab', 'up']; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "cleaned up\n"
    assert done.returncode == status.INTERRUPTED
    assert "Traceback" not in done.stderr


def test_labs_are_listed_for_programs(labs: Labs) -> None:
    labs(Lab())
    result = runner.invoke(main.app, ["lab", "status", "--json"])
    assert result.exit_code == 0
    by_name = {one["name"]: one["labs"] for one in json.loads(result.stdout)}
    assert [(lab["state"], lab["ssh_port"]) for lab in by_name["debian-13"]] == [("running", 10022)]
    assert by_name["debian-12"] == []
    labs()
    assert runner.invoke(main.app, ["lab", "status", "--json"]).exit_code == 1


def test_status_without_a_checkout_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "names", list)
    for words in (["lab", "status"], ["lab", "status", "--json"]):
        error = runner.invoke(main.app, words).exception
        assert isinstance(error, LabError)
        assert "checkout" in error.remedy
