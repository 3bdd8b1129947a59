"""What a lab costs, measured on processes and files that a test has made."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conformance.bench import lab_cost
from conformance.errors import HarnessError, LabError
from conformance.lab import definition, startup


def test_a_process_that_sleeps_is_idle_and_one_that_works_is_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as asleep, subprocess.Popen([sys.executable, "-c", "while 1: pass"]) as busy:
        try:
            assert lab_cost.idle(asleep.pid, 0.2) == 0
            assert lab_cost.idle(busy.pid, 1) > 10
        finally:
            asleep.kill()
            busy.kill()


def test_the_peak_counts_and_not_the_present() -> None:
    code = "a = bytearray(200_000_000); a[::4096] = b'x' * len(a[::4096]); del a; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert 0.2 <= lab_cost.memory(process.pid) < 0.5
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(LabError, match="the process has ended"):
            lab_cost.memory(process.pid)


def test_holes_in_files_take_nothing_and_a_file_with_two_names_is_one(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with (tmp_path / "deep" / "disk.raw").open("wb") as file:
        file.write(os.urandom(20_000_000))
        file.truncate(1 << 40)
    os.link(tmp_path / "deep" / "disk.raw", tmp_path / "again")
    (tmp_path / "key").symlink_to("/nowhere")
    assert lab_cost.allocated([tmp_path]) == 0.02
    assert lab_cost.allocated([tmp_path / "no"]) == 0


class Lab:
    accel = "emulation (TCG), QEMU 7"
    disk = SimpleNamespace(folder=Path("/made"))
    pid = os.getpid()

    def __init__(self, happened: list[str]) -> None:
        self.happened = happened

    def tunnel(self) -> SimpleNamespace:
        return SimpleNamespace(socket="/lab.sock", close=lambda: self.happened.append("closed"))

    def check(self) -> None:
        self.happened.append("checked")

    def stop(self) -> None:
        self.happened.append("stopped")


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    happened: list[str] = []

    def start(_host: object, _progress: object, *, saved: bool = True) -> Lab:
        happened.append("started" if saved else "booted")
        return Lab(happened)

    monkeypatch.setattr(startup, "start", start)
    monkeypatch.setattr(lab_cost, "connect", lambda address: happened.append(address))
    monkeypatch.setattr(lab_cost, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(lab_cost, "IDLE_SECONDS", 0.01)
    return happened


ONE = ["started", "unix:///lab.sock", "closed", "stopped"]


def test_everything_is_made_first_and_the_last_one_is_used(happened: list[str]) -> None:
    measured = lab_cost.measure(
        definition.load(), lambda _: None, repeat=2, use=lambda one: happened.append(f"used {one}")
    )
    used = [*ONE[:2], "used unix:///lab.sock", "checked", *ONE[2:]]
    assert happened == ["started", "stopped", "booted", *ONE[1:], *ONE, *used]
    assert len(measured.starts) == 2
    assert measured.accel == Lab.accel
    assert measured.memory > 0


def test_no_lab_is_left_where_its_use_fails(happened: list[str]) -> None:
    def use(_address: str) -> None:
        raise HarnessError("the matrix did not get to its end")

    with pytest.raises(HarnessError):
        lab_cost.measure(definition.load(), lambda _: None, repeat=1, use=use)
    assert happened[-2:] == ["closed", "stopped"]
