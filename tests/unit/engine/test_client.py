"""Engines that answer, refuse, keep silent or talk nonsense: each within its deadline and with a remedy."""

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.engine.client import Engine, connect
from conformance.engine.connect_errors import NoEngineError, explain
from conformance.engine.docker_context import DEFAULT_HOST, address, certificates
from conformance.errors import EngineError
from conformance.util import paths

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Listens on a unix socket and lets a function handle each connection."""
    listeners: list[socket.socket] = []

    def start(handle: Callable[[socket.socket], None]) -> str:
        path = tmp_path / "engine.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=[connection], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"unix://{path}"

    yield start
    for listener in listeners:
        listener.close()


def http(answers: dict[str, Any]) -> Callable[[socket.socket], None]:
    """Answers each request whose path ends so with JSON."""

    def handle(connection: socket.socket) -> None:
        with connection:
            while request := connection.recv(65536):
                path = request.split()[1].decode()
                body = json.dumps(next(answer for end, answer in answers.items() if path.endswith(end))).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    return handle


INFO = {
    "Name": "elsewhere",
    "KernelVersion": "6.1.0",
    "CgroupVersion": "2",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=apparmor", "name=cgroupns"],
    "OperatingSystem": "Debian GNU/Linux 13 (trixie)",
    "Architecture": "x86_64",
    "NCPU": 2,
}


def test_an_engine_that_answers(serve: Serve) -> None:
    engine = connect(serve(http({"/version": {"ApiVersion": "1.45", "Version": "26.1.5"}, "/info": INFO})))
    fingerprint = engine.fingerprint()
    assert engine.name == fingerprint.engine == "docker 26.1.5"
    assert fingerprint.security == ("apparmor", "cgroupns", "seccomp")
    assert (fingerprint.kernel, fingerprint.cgroup_version, fingerprint.cpus) == ("6.1.0", 2, 2)
    assert fingerprint.cpu == ""  # the host is another one, and no image is there to ask it


def test_podman_is_told_apart(serve: Serve) -> None:
    version = {"ApiVersion": "1.41", "Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}
    assert connect(serve(http({"/version": version, "/info": INFO}))).name == "podman 5.4.2"


def test_the_cpu_of_this_machine_needs_no_container() -> None:
    here = os.uname()
    engine = Engine(
        client=SimpleNamespace(containers=None),  # type: ignore[arg-type]
        host=DEFAULT_HOST,
        info={"Name": here.nodename, "KernelVersion": here.release},
        name="docker",
    )
    assert engine.local
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        "model name:",
    )
    assert engine.fingerprint().cpu == model.partition(":")[2].strip()


def test_too_old(serve: Serve) -> None:
    host = serve(http({"/version": {"ApiVersion": "1.40", "Version": "19.03"}, "/info": INFO}))
    with pytest.raises(EngineError, match=r"docker 19\.03.* speaks API 1\.40; 1\.41 is needed"):
        connect(host)


def test_silence_has_a_deadline(serve: Serve) -> None:
    begin = time.monotonic()
    with pytest.raises(EngineError, match="did not answer within 1 s"):
        connect(serve(lambda connection: time.sleep(30)), seconds=1)
    assert time.monotonic() - begin < 5


def test_a_byte_now_and_then_does_not_move_the_deadline(serve: Serve) -> None:
    def drip(connection: socket.socket) -> None:
        with connection:
            for _ in range(100):
                connection.sendall(b"H")
                time.sleep(0.3)

    begin = time.monotonic()
    with pytest.raises(EngineError, match="did not answer within 1 s"):
        connect(serve(drip), seconds=1)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("said", [b"hello there\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"])
def test_what_is_no_engine(serve: Serve, said: bytes) -> None:
    def say(connection: socket.socket) -> None:
        with connection:
            connection.recv(4096)
            connection.sendall(said)

    with pytest.raises(EngineError, match="no usable container engine") as caught:
        connect(serve(say))
    assert not isinstance(caught.value, NoEngineError)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NoEngineError, match=r"absent\.sock does not exist"):
        connect(f"unix://{tmp_path}/absent.sock")


def test_nothing_behind_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale.sock"))
    with pytest.raises(NoEngineError, match="connection refused"):
        connect(f"unix://{tmp_path}/stale.sock")


@pytest.mark.parametrize("chosen", [False, True])
def test_where_no_engine_answers_the_remedies_include_a_private_one(tmp_path: Path, chosen: bool) -> None:
    host = f"unix://{tmp_path}/absent.sock" if chosen else DEFAULT_HOST
    remedy = explain(host, FileNotFoundError(2, "No such file"), 5).remedy
    assert f"{paths.COMMAND} matrix" in remedy
    assert "private" in remedy
    assert ("unset DOCKER_HOST" in remedy) == chosen
    assert explain(host, ConnectionRefusedError(), 5).remedy == remedy


def test_a_socket_that_refuses_is_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(EngineError, match="permission denied") as caught:
        connect(DEFAULT_HOST)
    assert not isinstance(caught.value, NoEngineError)
    assert "usermod -aG docker" in caught.value.remedy


def test_an_address_that_is_none() -> None:
    with pytest.raises(EngineError, match="bogus://x") as caught:
        connect("bogus://x")
    assert "DOCKER_HOST" in caught.value.remedy


def test_where_an_engine_is_looked_for(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert address(home) == (DEFAULT_HOST, False)
    assert address({**home, "DOCKER_HOST": "tcp://127.0.0.1:1"}) == ("tcp://127.0.0.1:1", True)
    config = tmp_path / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text("no JSON")
    assert address(home) == (DEFAULT_HOST, False)
    config.write_text('{"currentContext": "default"}')
    assert address(home) == (DEFAULT_HOST, False)


def test_a_context_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'nowhere' does not exist"):
        address({"DOCKER_CONTEXT": "nowhere", "DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"Name": "farm"}'])
def test_a_context_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"farm").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(text)
    with pytest.raises(EngineError, match="'farm' cannot be read"):
        address({"DOCKER_CONTEXT": "farm", "DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(("unverified", "said"), [(False, "1"), (True, "")])
def test_a_context_says_its_address_and_certificates(tmp_path: Path, unverified: bool, said: str) -> None:
    name = hashlib.sha256(b"farm").hexdigest()
    meta = tmp_path / "contexts" / "meta" / name / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": "tcp://farm:2376", "SkipTLSVerify": unverified}
    meta.write_text(json.dumps({"Name": "farm", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    environ = {"DOCKER_CONTEXT": "farm", "DOCKER_CONFIG": str(tmp_path)}
    assert address(environ) == ("tcp://farm:2376", True)
    assert certificates(environ) == {}

    folder = tmp_path / "contexts" / "tls" / name / "docker"
    folder.mkdir(parents=True)
    for one in ("ca.pem", "cert.pem", "key.pem"):
        (folder / one).write_text("")
    assert certificates(environ) == {"DOCKER_CERT_PATH": str(folder), "DOCKER_TLS_VERIFY": said}
    assert certificates({**environ, "DOCKER_HOST": "tcp://other:2376"}) == {}
