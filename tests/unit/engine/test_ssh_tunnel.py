"""ssh as it is called, and what it says: by a stand-in on PATH."""

import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.engine import client, ssh_tunnel
from conformance.engine.ssh_tunnel import Target, Tunnel, command, parse
from conformance.errors import EngineError
from conformance.util.wait import wait_for

FakeSsh = Callable[[str], None]

FORWARD = f"""
[ "$1" = -N ] || exec sh -c "$(eval "echo \\${{$#}}")"
for one; do case "$before" in -L) local="${{one%%:*}}" remote="${{one#*:}}";; esac; before="$one"; done
exec {sys.executable} -c '
import os, socket, sys, threading
os.umask(0o177)
near = socket.socket(socket.AF_UNIX); near.bind(sys.argv[1]); near.listen()
def copy(a, b):
    while data := a.recv(65536): b.sendall(data)
    b.shutdown(socket.SHUT_WR)
while True:
    one, _ = near.accept()
    far = socket.socket(socket.AF_UNIX)
    try: far.connect(sys.argv[2])
    except OSError:
        print("channel 2: open failed: connect failed: open failed", file=sys.stderr, flush=True); one.close(); continue
    for pair in ((one, far), (far, one)): threading.Thread(target=copy, args=pair, daemon=True).start()
' "$local" "$remote"
"""


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    """Puts a script on PATH as ssh; its words go to the file calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(ssh_tunnel, "_tunnels", {})

    def write(script: str) -> None:
        ssh = folder / "ssh"
        ssh.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n{script}\n')
        ssh.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("ssh://host", Target("host")),
        ("ssh://Host.Alias/", Target("Host.Alias")),
        ("ssh://root@10.0.0.1:2222", Target("10.0.0.1", "root", 2222)),
        ("ssh://me@[fd00::1]:22/run/user/1000/docker.sock", Target("fd00::1", "me", 22, "/run/user/1000/docker.sock")),
        ("ssh://a%20b@host", Target("host", "a b")),
    ],
)
def test_addresses(address: str, target: Target) -> None:
    assert parse(address) == target


@pytest.mark.parametrize("address", ["ssh://", "ssh://user@", "ssh://host:port", "ssh://u:secret@host", "ssh://host?x"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse(address)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_the_command_line() -> None:
    words = command(Target("host", "joe", 2222), Path("/tmp/f/engine.sock"), ["-i", "key", "-o", "ConnectTimeout=3"])
    assert words[:8] == ["ssh", "-N", "-T", "-a", "-x", "-i", "key", "-o"]
    assert words[-5:] == ["-L", "/tmp/f/engine.sock:/var/run/docker.sock", "-p2222", "--", "joe@host"]
    for option in ("BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=10", "ControlPath=none"):
        assert words[words.index(option) - 1] == "-o"
    # ssh takes the first value of each.
    assert words.index("ConnectTimeout=3") < words.index("ConnectTimeout=10")


def test_a_name_is_never_an_option() -> None:
    assert command(parse("ssh://-oProxyCommand=x"), Path("/s"))[-2:] == ["--", "-oProxyCommand=x"]


@pytest.mark.parametrize(
    ("said", "meaning", "remedy"),
    [
        ("ssh: Could not resolve hostname h: Name or service not known", "cannot be resolved", "DOCKER_HOST"),
        ("No ED25519 host key is known for h.\nHost key verification failed.", "key is unknown", "ssh -i k h true"),
        (
            "@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "key has changed",
            "ssh-keygen -R h",
        ),
        ("h: Permission denied (publickey).", "permission denied", "ssh-copy-id"),
        ("ssh: connect to host h port 22: Connection refused", "does not answer", "ssh -i k h true"),
        ("something new", "something new", "try: ssh -i k h true"),
    ],
)
def test_why_ssh_ended(fake_ssh: FakeSsh, said: str, meaning: str, remedy: str) -> None:
    fake_ssh(f"printf '%s\\n' '{said}' >&2; exit 255")
    with pytest.raises(EngineError, match=meaning) as caught:
        client.connect("ssh://h", ssh=["-i", "k"])
    assert said.splitlines()[-1] in caught.value.message
    assert remedy in caught.value.remedy


def test_ssh_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(EngineError, match="not installed") as caught:
        client.connect("ssh://host")
    assert "openssh-client" in caught.value.remedy


def test_ssh_that_keeps_silent_has_a_deadline_and_leaves_nothing(fake_ssh: FakeSsh) -> None:
    fake_ssh("echo half a banner >&2; exec sleep 1000")
    begin = time.monotonic()
    with pytest.raises(EngineError, match=r"did not reach ssh://h within 1 s; .*half a banner"):
        Tunnel("ssh://h", seconds=1)
    assert time.monotonic() - begin < 10


@pytest.fixture
def listening(tmp_path: Path) -> Path:
    """A socket that answers everything as an engine's that is too old."""
    path = tmp_path / "far.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    body = b'{"ApiVersion": "1.40", "Version": "19.03"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def serve(one: socket.socket) -> None:
        while one.recv(65536):
            one.sendall(answer)

    def accept() -> None:
        while True:
            one, _ = listener.accept()
            threading.Thread(target=serve, args=[one], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return path


def test_an_engine_through_a_tunnel(fake_ssh: FakeSsh, listening: Path) -> None:
    fake_ssh(FORWARD)
    with pytest.raises(EngineError, match=r"19\.03.* speaks API 1\.40"):
        client.connect(f"ssh://h{listening}")
    opened = ssh_tunnel.to(f"ssh://h{listening}")
    assert stat.S_IMODE(opened.socket.stat().st_mode) == 0o600
    opened.close()
    assert not opened.socket.parent.exists()


def test_one_process_has_one_tunnel_to_an_address_and_a_new_one_after_its_end(
    fake_ssh: FakeSsh, listening: Path, tmp_path: Path
) -> None:
    fake_ssh(FORWARD + "\n")
    first = ssh_tunnel.to(f"ssh://h{listening}")
    assert ssh_tunnel.to(f"ssh://h{listening}") is first
    other = ssh_tunnel.to(f"ssh://other{listening}")
    assert other is not first
    first._kept._keeper.terminate()
    wait_for("the tunnel's end", lambda: not first.alive, seconds=20)
    second = ssh_tunnel.to(f"ssh://h{listening}")
    assert second is not first
    assert len((tmp_path / "calls").read_text().splitlines()) == 3
    for one in (other, second):
        one.close()


def test_no_engine_behind_the_host_is_told(fake_ssh: FakeSsh, tmp_path: Path) -> None:
    fake_ssh(FORWARD)
    with pytest.raises(EngineError, match=r"no socket .*absent\.sock") as caught:
        client.connect(f"ssh://h{tmp_path}/absent.sock")
    assert "systemctl start docker" in caught.value.remedy


def test_a_socket_that_may_not_be_opened_over_there_is_told(fake_ssh: FakeSsh, tmp_path: Path) -> None:
    stale = tmp_path / "far.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(stale))
    fake_ssh(f'case "$*" in *"! -w"*) echo denied; exit;; esac\n{FORWARD}')
    with pytest.raises(EngineError, match=r"permission denied for joe .*far\.sock") as caught:
        client.connect(f"ssh://joe@h{stale}")
    assert "usermod -aG docker joe" in caught.value.remedy


def test_a_host_that_forwards_nothing_is_told(fake_ssh: FakeSsh, listening: Path) -> None:
    refusal = "channel 1: open failed: administratively prohibited: open failed"
    fake_ssh(FORWARD.replace("channel 2: open failed: connect failed: open failed", refusal))
    with pytest.raises(EngineError, match="forwards no sockets") as caught:
        client.connect("ssh://h/nowhere.sock")
    assert "AllowStreamLocalForwarding yes" in caught.value.remedy
