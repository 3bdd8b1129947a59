"""What tries the powers over a host, in a shell of this machine."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from conformance.container import Done
from conformance.errors import HarnessError
from conformance.powers import POWERS, SETTINGS, _says, unseen


class Shell:
    """Runs a container's commands here, with or without tools."""

    def __init__(self, path: str) -> None:
        self.path = path

    def run(self, *command: str) -> Done:
        done = subprocess.run(["/bin/sh", *command[1:]], env={"PATH": self.path}, capture_output=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)


def test_what_a_script_reached_is_what_it_says() -> None:
    shell: Any = Shell("/usr/bin:/bin")
    assert _says("echo vda", "head")(shell) == "vda"
    assert _says("true")(shell) == ""


@pytest.mark.parametrize("power", ["host-kernel", "host-disks", "host-disks-by-domain"])
def test_without_its_tool_a_power_is_not_taken_for_one_that_is_lacking(power: str) -> None:
    shell: Any = Shell("/nowhere")
    with pytest.raises(HarnessError, match="could not be tried"):
        POWERS[power](shell)


@pytest.mark.parametrize(("mknod", "reached"), [("exit 1", ""), (': >"$1"', "244")])
def test_a_device_that_cannot_be_made_is_not_reached(tmp_path: Path, mknod: str, reached: str) -> None:
    for tool, does in (("awk", "echo 244"), ("mknod", mknod)):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / tool).chmod(0o755)
    shell: Any = Shell(f"{tmp_path}:/usr/bin:/bin")
    assert POWERS["host-macvtap"](shell) == reached


def test_a_setting_that_is_closed_does_not_hide_another_way_to_it(tmp_path: Path) -> None:
    shell: Any = Shell("/usr/bin:/bin")
    (tmp_path / "core_pattern").touch()
    script = SETTINGS.replace("/proc/sys/kernel", str(tmp_path / "nowhere")).replace(
        "/host-procsys/kernel", str(tmp_path)
    )
    assert _says(script)(shell) == str(tmp_path / "core_pattern")


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
