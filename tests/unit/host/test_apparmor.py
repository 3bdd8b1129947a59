"""The project's own AppArmor profiles."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.errors import Unsupported
from conformance.host import apparmor

NAME = "libvirt-container"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's file system; its apparmor_parser notes what it is asked, and fails where the file ``refuse`` is."""
    (tmp_path / "sys/kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "proc/7/attr").mkdir(parents=True)
    (tmp_path / "proc/7/attr/current").write_text("docker-default (enforce)\n")
    (tmp_path / "sys/kernel/security/apparmor/profiles").write_text("docker-default (enforce)\n")
    parser = tmp_path / "chroot"
    refuses = f"[ ! -e {tmp_path}/refuse ] || {{ echo no; exit 1; }}"
    parser.write_text(f'#!/bin/sh\ncat >/dev/null; echo "$*" >>{tmp_path}/asked; {refuses}\n')
    parser.chmod(0o755)

    def output(_shell: HostShell, command: list[str], **options: Any) -> str:
        assert options["binds"] == ["/:/host"]
        script = command[2].replace("/host/", f"{tmp_path}/")
        run = [*command[:2], f"PATH={tmp_path}:$PATH\n{script}", *command[3:]]
        return subprocess.run(run, capture_output=True, text=True, check=False).stdout

    monkeypatch.setattr(HostShell, "output", output)
    return tmp_path


def asked(host: Path) -> str:
    file = host / "asked"
    return file.read_text() if file.exists() else ""


class Volumes:
    """An engine that keeps volumes."""

    def __init__(self) -> None:
        self.there: dict[str, dict[str, str]] = {}
        self.api = self

    def create_volume(self, name: str, labels: dict[str, str]) -> dict[str, str]:
        self.there[name] = labels
        return {"Name": name}

    def remove_volume(self, name: str, force: bool) -> None:
        assert force
        del self.there[name]


@pytest.fixture
def client() -> Any:
    return Volumes()


MARKS = {labels.RUN: "run", labels.IMAGE: "image", labels.PROFILE: NAME}


def test_a_profile_that_was_not_there_is_loaded_remembered_and_taken_away(host: Path, client: Any) -> None:
    apparmor.load(HostShell(client, "image", "run"), NAME)
    (marks,) = client.there.values()
    assert marks == MARKS
    apparmor.CHANGE.undo(client, {"Labels": marks})
    assert asked(host) == "/host apparmor_parser --replace\n/host apparmor_parser --remove\n"


def test_one_that_was_there_is_the_hosts_own(host: Path, client: Any) -> None:
    (host / "sys/kernel/security/apparmor/profiles").write_text(f"{NAME} (enforce)\n")
    apparmor.load(HostShell(client, "image", "run"), NAME)
    assert client.there == {}


def test_one_that_confines_somebody_is_not_taken_away(host: Path, client: Any) -> None:
    (host / "proc/7/attr/current").write_text(f"{NAME} (enforce)\n")
    apparmor.CHANGE.undo(client, {"Labels": MARKS})
    assert asked(host) == ""


def test_a_host_that_does_not_take_it_cannot_be_asked(host: Path, client: Any) -> None:
    (host / "refuse").touch()
    with pytest.raises(Unsupported, match=f"{NAME}: no"):
        apparmor.load(HostShell(client, "image", "run"), NAME)
    assert client.there == {}


@pytest.mark.skipif(not shutil.which("apparmor_parser", path="/usr/sbin:/sbin"), reason="there is no parser to ask")
def test_the_profile_is_one() -> None:
    command = ["/usr/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache", str(apparmor.FOLDER / NAME)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
