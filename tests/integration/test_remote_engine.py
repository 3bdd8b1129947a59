"""An engine that is reached as one elsewhere is: by ssh, by TCP, by a Docker context; and lost in the middle."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.engine import client, image, labels
from conformance.errors import EngineError
from conformance.model import record
from conformance.model.verdict import Verdict
from conformance.run import cleanup
from conformance.util import paths
from conformance.util.wait import wait_for

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

pytestmark = pytest.mark.timeout(200)

SESSION_SECONDS = 150


@pytest.fixture(scope="module")
def where() -> client.Engine:
    """The engine as it is reached here, with the image on it."""
    found = client.connect()
    if not found.host.startswith("unix://"):
        pytest.skip("needs an engine on a socket of this machine, to forward it")
    image.ensure_image(found, lambda _text: None)
    return found


@pytest.fixture(scope="module")
def engine_socket(where: client.Engine) -> str:
    return where.host.removeprefix("unix://")


# -------------------------------------------------------------------------------------------------- the ways


class TcpProxy:
    """A port of the loopback address that leads to the engine's socket."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def proxy(engine_socket: str) -> Iterator[TcpProxy]:
    one = TcpProxy(engine_socket)
    yield one
    one.end()


# ----------------------------------------------------------------------------------------------- the sessions


class Session:
    """A run of the matrix whose temporary files are in a folder of the test's own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.results = folder / "results"
        # Short, or a socket would not fit.
        self.temporary = Path(tempfile.mkdtemp(prefix="lc-"))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "conformance.cli", "matrix", "-v", *options, "--results", str(self.results)],
            cwd=paths.PROJECT,
            env=environ | {"TMPDIR": str(self.temporary)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.output = ""

    def until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"ended before {text!r}:\n{self.output}")

    def end(self) -> int:
        try:
            rest, _ = self.process.communicate(timeout=SESSION_SECONDS)
            self.output += rest
            return self.process.returncode
        finally:
            self.process.kill()

    @property
    def records(self) -> list[record.Record]:
        return list(record.read(self.results))

    def programs(self) -> list[int]:
        """Return the processes that this session's tunnel is made of."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.fsencode(self.temporary) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def forget(self) -> None:
        """Wait until nothing of it is left on this machine."""
        wait_for(
            "nothing to be left here",
            lambda: not self.programs() and not list(self.temporary.glob("conformance-*")),
            seconds=15,
            seen=lambda: f"{self.programs()} {list(self.temporary.glob('**/*'))}",
        )
        shutil.rmtree(self.temporary)

    def left(self, where: client.Engine) -> list[str]:
        """Return what it left on the engine."""
        api = where.client.api
        found = [
            *api.containers(all=True, filters={"label": labels.RUN}),
            *api.networks(filters={"label": labels.RUN}),
            *(api.volumes(filters={"label": labels.RUN})["Volumes"] or []),
        ]
        return [str(one) for one in found if f"-{self.process.pid}" in str(one["Labels"][labels.RUN])]


def passes(session: Session, where: client.Engine, features: set[str]) -> None:
    """End a session, in which everything works and of which nothing is left."""
    assert session.end() == 0, session.output
    assert {one.feature for one in session.records} == features
    assert {one.verdict for one in session.records} == {Verdict.WORKS}, session.output
    assert session.left(where) == []
    session.forget()


def is_lost(session: Session, where: client.Engine) -> None:
    """End a session that lost its engine: an error and no verdict, and the next run cleans up."""
    assert session.end() != 0, session.output
    assert "the engine no longer answers" in session.output
    assert "Traceback" not in session.output
    assert {one.verdict for one in session.records} <= {Verdict.ERROR}, session.output
    session.forget()
    cleanup.sweep(where.client)
    assert session.left(where) == []


def by_ssh(sshd: "Sshd", engine_socket: str) -> dict[str, str]:
    return {"DOCKER_HOST": sshd.address(engine_socket), "PATH": f"{sshd.bin}:{os.environ['PATH']}"}


def test_by_ssh_the_api_and_a_guest_work(
    where: client.Engine, sshd: "Sshd", engine_socket: str, tmp_path: Path
) -> None:
    options = ("-m", "api or virtio_disk", "--mode", "unprivileged")
    passes(Session(tmp_path, *options, **by_ssh(sshd, engine_socket)), where, {"api", "virtio-disk"})


def test_by_ssh_in_the_hosts_network(where: client.Engine, sshd: "Sshd", engine_socket: str, tmp_path: Path) -> None:
    options = ("-m", "api", "--mode", "unprivileged-hostnet")
    passes(Session(tmp_path, *options, **by_ssh(sshd, engine_socket)), where, {"api"})


def test_by_tcp(where: client.Engine, proxy: TcpProxy, tmp_path: Path) -> None:
    options = ("-m", "api", "--mode", "required-only")
    passes(Session(tmp_path, *options, DOCKER_HOST=proxy.address), where, {"api"})


def test_by_a_docker_context(where: client.Engine, sshd: "Sshd", engine_socket: str, tmp_path: Path) -> None:
    config = tmp_path / "docker"
    subprocess.run(
        ["docker", "context", "create", "elsewhere", "--docker", f"host={sshd.address(engine_socket)}"],
        env={"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(config)},
        check=True,
        capture_output=True,
    )
    (config / "config.json").write_text(json.dumps({"currentContext": "elsewhere"}))
    environ = by_ssh(sshd, engine_socket) | {"DOCKER_HOST": "", "DOCKER_CONFIG": str(config)}
    passes(Session(tmp_path, "-m", "api", "--mode", "required-only", **environ), where, {"api"})


# ------------------------------------------------------------------------------------------- lost in the middle


def kill_tunnel(session: Session) -> None:
    for one in session.programs():
        if (Path("/proc") / str(one) / "comm").read_text() == "ssh\n":
            os.kill(one, signal.SIGKILL)


def test_a_tunnel_that_breaks_under_a_guest_is_an_error_of_the_engine(
    where: client.Engine, sshd: "Sshd", engine_socket: str, tmp_path: Path
) -> None:
    options = ("-m", "virtio_net", "--mode", "unprivileged")
    session = Session(tmp_path, *options, **by_ssh(sshd, engine_socket))
    session.until("a guest by BIOS")
    time.sleep(1)
    kill_tunnel(session)
    is_lost(session, where)


def test_a_tcp_engine_that_goes_away_is_an_error_of_the_engine(
    where: client.Engine, proxy: TcpProxy, tmp_path: Path
) -> None:
    session = Session(tmp_path, "-m", "api", "--mode", "required-only", DOCKER_HOST=proxy.address)
    session.until("starting the container")
    proxy.end()
    is_lost(session, where)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_session_that_is_ended_leaves_nothing_on_this_machine(
    where: client.Engine, sshd: "Sshd", engine_socket: str, tmp_path: Path, number: signal.Signals
) -> None:
    options = ("-m", "api", "--mode", "required-only")
    session = Session(tmp_path, *options, **by_ssh(sshd, engine_socket))
    session.until("starting the container")
    session.process.send_signal(number)
    assert session.end() != 0
    session.forget()
    if number is signal.SIGKILL:
        cleanup.sweep(where.client)
    wait_for("nothing to be left", lambda: not session.left(where), seconds=30)


# --------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "path", "said"),
    [
        (["-o", "UserKnownHostsFile=/dev/null"], "", "key is unknown"),
        (["-i", "/dev/null", "-o", "IdentityFile=none"], "", "permission denied"),
        ([], "/nowhere/docker.sock", "no socket /nowhere/docker.sock"),
        (["-p", "1"], "", "the host does not answer"),
    ],
)
def test_ssh_that_does_not_get_there_is_told(
    sshd: "Sshd", engine_socket: str, monkeypatch: pytest.MonkeyPatch, options: list[str], path: str, said: str
) -> None:
    # Without the configuration of the others: of each option ssh takes the first value, but of keys all.
    plain = ["-F", "none", "-o", f"UserKnownHostsFile={sshd.folder}/known_hosts", "-o", "IdentitiesOnly=yes"]
    key = [] if "-i" in options else ["-i", str(sshd.folder / "user")]
    with pytest.raises(EngineError, match=said) as caught:
        client.connect(sshd.address(path or engine_socket), ssh=[*options, *plain, *key])
    assert caught.value.remedy
