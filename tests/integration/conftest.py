"""An SSH server of this machine, as if it were another machine's."""

import contextlib
import getpass
import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.util.wait import wait_for

SSHD = "/usr/sbin/sshd"


class Sshd:
    """An SSH server on a loopback port with keys of its own, and an ``ssh`` on PATH that knows them."""

    NAME = "docker-host.example"
    """The server's name for that ssh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f'SetEnv "PATH={os.environ["PATH"]}"\n'
        )
        config = folder / "ssh_config"
        config.write_text(
            f"Host {self.NAME}\n  HostName 127.0.0.1\n  HostKeyAlias [127.0.0.1]:{self.port}\n  Port {self.port}\n"
            f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
        )
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {shlex.quote(str(config))} "$@"\n')
        (self.bin / "ssh").chmod(0o755)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for("sshd", self._answers, seconds=20, seen=(folder / "log").read_text)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def address(self, path: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    assert Path(SSHD).exists(), "openssh-server is missing: ./run test installs it"
    separated = Path("/run/sshd")  # for root's sshd, made by its service otherwise
    made = os.geteuid() == 0 and not separated.exists()
    if made:
        separated.mkdir(mode=0o755)
    with tempfile.TemporaryDirectory() as folder:
        server = Sshd(Path(folder))
        try:
            yield server
        finally:
            server.stop()
            if made:
                separated.rmdir()
