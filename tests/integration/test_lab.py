"""The lab: started, judged on with a real KVM inside, broken in the middle, and gone without a trace.

The first of these builds what a lab takes, minutes, where the cache does not have it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.errors import LabError
from conformance.lab import definition, machine, startup
from conformance.lab.machine import Machine
from conformance.model import record
from conformance.model.verdict import Verdict
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.util.wait import wait_for

pytestmark = pytest.mark.timeout(1500)

MATRIX_SECONDS = 900
INTERRUPTED_SECONDS = 120


say = Progress()
"""A build takes minutes; pytest shows what was said where a test fails."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[definition.Host]:
    """The default host, with all that it takes, in a cache in which no other lab runs."""
    host = definition.load()
    startup.start(host, say).stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFORMANCE_CACHE", str(linked(tmp_path_factory.mktemp("cache"), host)))
        yield host


def linked(cache: Path, host: definition.Host) -> Path:
    """Return a cache that has what the present one has, without what runs there."""
    real = paths.cache()
    (cache / "lab").mkdir()
    for made in (real / "downloads", real / "media", *real.glob("lab/qemu-*/"), real / "lab" / host.folder):
        (cache / made.relative_to(real)).symlink_to(made)
    return cache


@pytest.fixture
def lab(host: definition.Host) -> Iterator[Machine]:
    lab = startup.start(host, say)
    try:
        yield lab
    finally:
        lab.stop()


class Matrix:
    """A run of the matrix on the lab, in a process of its own."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conformance.cli", "matrix", "--host", "lab", *words],
            cwd=paths.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def own(self) -> Machine | None:
        """Return the lab that this run has started, once that is there."""
        return next((one for one in machine.running() if f"-{self.process.pid}-" in one.folder.name), None)

    def end(self, seconds: float) -> tuple[int, str]:
        try:
            output, _ = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        return self.process.returncode, output


def test_guests_run_under_a_real_kvm_inside(host: definition.Host, tmp_path: Path) -> None:
    run = Matrix("-m", "api or kvm or uefi", "-k", "not kept", "--mode", "privileged", "--results", str(tmp_path))
    status, output = run.end(MATRIX_SECONDS)

    records = list(record.read(tmp_path))
    assert status == 0, output
    assert {one.verdict for one in records} == {Verdict.WORKS}
    assert {one.accel for one in records if one.feature == "kvm"} == {"kvm"}
    assert {one.host.name for one in records} == {"lab-debian-13"}
    fingerprint = records[-1].host.fingerprint
    assert "apparmor" in str(fingerprint["security"])
    assert fingerprint["cgroup_version"] == 2
    assert "booted a kernel under KVM" in str(fingerprint["kvm"])
    assert "QEMU" in str(fingerprint["outer"])
    assert run.own() is None


def test_a_lab_that_is_killed_in_the_middle_is_an_error_beside_its_console(
    host: definition.Host, tmp_path: Path
) -> None:
    run = Matrix("-m", "api or kvm", "--mode", "privileged", "--results", str(tmp_path))
    lab = wait_for("the run's lab", run.own, seconds=INTERRUPTED_SECONDS)
    wait_for("a record", lambda: any(tmp_path.glob("*.jsonl")), seconds=MATRIX_SECONDS)
    os.kill(lab.pid, signal.SIGKILL)
    status, output = run.end(INTERRUPTED_SECONDS)

    assert status == 6, output
    assert re.search(r"its console ends with:\n +\[ *\d+\.\d+\] ", output), output
    assert Verdict.FAILS not in {one.verdict for one in record.read(tmp_path)}
    assert not lab.folder.exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_lab(host: definition.Host, tmp_path: Path, sent: signal.Signals) -> None:
    run = Matrix("-m", "kvm", "--mode", "privileged", "--results", str(tmp_path))
    lab = wait_for("the run's lab", run.own, seconds=INTERRUPTED_SECONDS)
    time.sleep(1)
    run.process.send_signal(sent)
    status, output = run.end(INTERRUPTED_SECONDS)

    assert status != 0, output
    assert not lab.alive
    assert not lab.folder.exists()


def test_a_killed_run_takes_its_lab_along(host: definition.Host, tmp_path: Path) -> None:
    run = Matrix("-m", "kvm", "--mode", "privileged", "--results", str(tmp_path))
    lab = wait_for("the run's lab", run.own, seconds=INTERRUPTED_SECONDS)
    run.process.kill()
    run.process.wait()

    wait_for("the end of the lab", lambda: not lab.alive, seconds=10)
    machine.running()
    assert not lab.folder.exists()


def test_two_labs_run_side_by_side_and_a_hung_one_is_told(lab: Machine, host: definition.Host) -> None:
    other = startup.start(host, say)
    try:
        assert lab.run("hostname") == other.run("hostname") == "lab-debian-13\n"
        lab.run("echo mine >/root/mark")
        with pytest.raises(LabError, match="No such file"):
            other.run("cat /root/mark")

        os.kill(other.pid, signal.SIGSTOP)
        assert other.state() == "hung"
        with pytest.raises(LabError, match="its console ends with"):
            other.check()
    finally:
        os.kill(other.pid, signal.SIGCONT)
        other.stop()
    assert lab.state() == "running"


def test_only_its_sshd_can_be_reached_and_only_with_the_key(lab: Machine) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    own = [line.split()[3] for line in listening.splitlines() if f"pid={lab.pid}," in line]
    assert own == [f"127.0.0.1:{lab.port}"]

    key = lab.disk.folder / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    without = ["ssh", "-p", str(lab.port), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-F", "none"]
    refused = subprocess.run(
        [*without, "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none", "root@127.0.0.1", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 255
    assert "Permission denied" in refused.stderr


def test_a_saved_state_that_cannot_be_used_is_thrown_away_and_the_lab_is_booted(
    host: definition.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = linked(tmp_path, host)
    disk = cache / "lab" / host.folder
    made = disk.readlink()
    disk.unlink()
    disk.mkdir()
    for file in made.iterdir():
        if file.name == "state.lock":
            continue  # each cache has a lock of its own, and no lock file may be a link
        if file.is_file():
            (disk / file.name).symlink_to(file)
        else:
            shutil.copytree(file, disk / file.name)
            (disk / file.name / "memory").write_bytes(b"not a machine")
    monkeypatch.setenv("CONFORMANCE_CACHE", str(cache))
    said: list[str] = []
    states = len(list(disk.glob("state-*")))

    lab = startup.start(host, said.append)
    try:
        assert lab.run("hostname") == "lab-debian-13\n"
        assert any("cannot be used, booting it" in line for line in said)
        assert len(list(disk.glob("state-*"))) == states - 1
    finally:
        lab.stop()
