"""What tries the powers over a host, in a shell of this machine."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.checks.host_access import MACVTAP, POWERS, SETTINGS, _said, unseen
from conformance.container.engine_container import ExecResult
from conformance.engine.host_shell import HostShell
from conformance.errors import HarnessError, Unsupported

NOBODY: Any = None
RUN: Any = SimpleNamespace(shell=HostShell(NOBODY, "", ""))


class Shell:
    """Runs a container's commands here, with or without tools."""

    def __init__(self, path: str) -> None:
        self.path = path

    def run(self, *command: str) -> ExecResult:
        done = subprocess.run(["/bin/sh", *command[1:]], env={"PATH": self.path}, capture_output=True, check=False)
        return ExecResult(done.returncode, done.stdout, done.stderr)


def test_what_a_script_reached_is_what_it_says() -> None:
    shell: Any = Shell("/usr/bin:/bin")
    assert _said(shell, "echo vda", "head") == "vda"
    assert _said(shell, "true") == ""


@pytest.mark.parametrize("power", ["host-kernel", "host-disks", "host-disks-by-domain"])
def test_without_its_tool_a_power_is_not_taken_for_one_that_is_lacking(power: str) -> None:
    shell: Any = Shell("/nowhere")
    with pytest.raises(HarnessError, match="cannot be tested"):
        POWERS[power](shell, RUN)


@pytest.mark.parametrize(("mknod", "reached"), [("echo not permitted >&2; exit 1", ""), (': >"$1"', "244")])
def test_a_device_that_cannot_be_made_is_not_reached(tmp_path: Path, mknod: str, reached: str) -> None:
    (tmp_path / "mknod").write_text(f"#!/bin/sh\n{mknod}\n")
    (tmp_path / "mknod").chmod(0o755)
    shell: Any = Shell(f"{tmp_path}:/usr/bin:/bin")
    assert _said(shell, MACVTAP, words=["244"]) == reached


def test_a_device_that_cannot_be_made_for_another_reason_is_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "mknod").write_text("#!/bin/sh\necho No space left on device >&2\nexit 1\n")
    (tmp_path / "mknod").chmod(0o755)
    shell: Any = Shell(f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HarnessError, match="No space left"):
        _said(shell, MACVTAP, words=["244"])


def test_a_host_without_macvtap_is_not_taken_for_one_that_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostShell, "output", lambda *_, **__: "Character devices:\n 10 misc\n")
    shell: Any = Shell("/usr/bin:/bin")
    with pytest.raises(Unsupported, match="no driver macvtap"):
        POWERS["host-macvtap"](shell, RUN)


def test_a_setting_that_is_closed_does_not_hide_another_way_to_it(tmp_path: Path) -> None:
    shell: Any = Shell("/usr/bin:/bin")
    (tmp_path / "core_pattern").touch()
    script = SETTINGS.replace("/proc/sys/kernel", str(tmp_path / "nowhere")).replace(
        "/host-procsys/kernel", str(tmp_path)
    )
    assert _said(shell, script) == str(tmp_path / "core_pattern")


@pytest.mark.parametrize(
    ("kernel", "power", "seen"),
    [
        ("6.1.0-56-amd64", "host-mounts", False),
        ("6.7.0", "host-mounts", True),
        ("6.12.117+deb13-amd64", "host-mounts", True),
        ("6.1.0-56-amd64", "host-mounts-by-mount2", True),
        ("6.1.0-56-amd64", "host-settings", True),
        ("", "host-mounts", True),
    ],
)
def test_an_older_kernels_apparmor_does_not_see_each_mount(kernel: str, power: str, seen: bool) -> None:
    assert bool(unseen(kernel, power)) != seen
