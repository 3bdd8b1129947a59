"""Ports that are open on the loopback address of an engine's host, reached through the engine's own API.

It works alike for engines behind ssh, TCP or a Docker context: a connection to a UNIX socket on this machine goes to a
command in a small container on the engine's host, which connects to the port. Nothing listens on TCP on this machine.
"""

import contextlib
import math
import select
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.exec_stream import LATER, STDERR, STDOUT, Frames, Stream
from conformance.errors import EngineError
from conformance.util import signals
from conformance.util.supervisor import SupervisedProcess

FOREVER = ["/bin/busybox", "sleep", "inf"]

CONNECT = ["/bin/busybox", "sh", "-c", 'echo $$ >&2; exec /bin/busybox nc -w 10 127.0.0.1 "$0"']
"""Says the process ID by which it can be ended, and becomes the connection to a port."""

BUFFER_BYTES = 1 << 18
"""So much waits for a side that is slow; then the other side has to wait."""

END_SECONDS = 5
"""For a connection to end over there after it ended here."""


class Pump:
    """Carries bytes between a client's socket and the engine's multiplexed stream, both ways, until a side has ended.

    Args:
        near: the client's.
        far: the engine's.
        early: what came from there already.

    Attributes:
        said: what came over the standard error stream.
        ended: whether the far side ended by itself.
    """

    def __init__(self, near: socket.socket, far: socket.socket, early: bytes = b"") -> None:
        self._near = near
        self._far = far
        self._frames = Frames()
        self._up = bytearray()
        self._down = bytearray()
        self._sending = True  # the client may still send
        self._hung_up = False  # it neither sends nor receives
        self._told = False  # the far side knows that the client sends nothing more
        self._deadline = math.inf
        self.said = b""
        self.ended = False
        self._take(early)

    def run(self) -> None:
        """Carry until the end; the caller closes both sockets."""
        self._near.setblocking(False)
        self._far.setblocking(False)
        while not (self.ended and not self._down) and time.monotonic() < self._deadline:
            near, far = self._wait()
            if near:
                self._receive_near()
            try:
                if far:
                    self._receive_far()
                if not self.ended:
                    self._send_far()
            except OSError:  # the engine is gone, and what it ran can no longer be ended
                self.ended = True
            self._send_near()
            if self._hung_up:
                self._deadline = min(self._deadline, time.monotonic() + END_SECONDS)

    def _wait(self) -> tuple[bool, bool]:
        """Wait until something can be done; say from which sides something can be received."""
        near = select.POLLIN if self._sending and len(self._up) < BUFFER_BYTES else 0
        near |= select.POLLOUT if self._down else 0
        far = select.POLLIN if not self.ended and len(self._down) < BUFFER_BYTES else 0
        far |= select.POLLOUT if self._up and not self.ended else 0
        decrypted = far & select.POLLIN and isinstance(self._far, ssl.SSLSocket) and self._far.pending()
        poll = select.poll()
        if not self._hung_up:
            poll.register(self._near, near)  # even for nothing: who hangs up is always told
        if far:
            poll.register(self._far, far)
        rest = near & select.POLLIN and self._hung_up
        left = None if self._deadline == math.inf else max(0.0, 1000 * (self._deadline - time.monotonic()))
        found = dict(poll.poll(0 if decrypted or rest else left))
        events = found.get(self._near.fileno(), 0)
        self._hung_up = self._hung_up or bool(events & (select.POLLHUP | select.POLLERR))
        return (
            bool(near & select.POLLIN and (events & ~select.POLLOUT or rest)),
            bool(decrypted or found.get(self._far.fileno(), 0) & ~select.POLLOUT),
        )

    def _receive_near(self) -> None:
        try:
            data = self._near.recv(BUFFER_BYTES)
        except LATER:
            return
        except OSError:
            data, self._hung_up = b"", True
        self._up += data
        self._sending = bool(data)

    def _receive_far(self) -> None:
        with contextlib.suppress(*LATER):
            data = self._far.recv(BUFFER_BYTES)
            self.ended = not data
            self._take(data)

    def _take(self, data: bytes) -> None:
        for stream, piece in self._frames.feed(data):
            if stream == STDERR:
                self.said += piece
            elif stream == STDOUT:
                self._down += piece

    def _send_far(self) -> None:
        if self._up:
            with contextlib.suppress(*LATER):
                del self._up[: self._far.send(self._up)]
        if not (self._up or self._sending or self._told):
            self._told = True
            if isinstance(self._far, ssl.SSLSocket):
                self._deadline = 0  # TLS has no half of an end in Python: it is ended as a whole
            else:
                self._far.shutdown(socket.SHUT_WR)

    def _send_near(self) -> None:
        if self._hung_up:
            self._down.clear()
        if not self._down:
            return
        try:
            del self._down[: self._near.send(self._down)]
        except LATER:
            return
        except OSError:
            self._hung_up = True
            self._down.clear()


class Relay:
    """A run's way to the ports of an engine's host.

    Args:
        client: the engine.
        image: an image with busybox: the peer's.
        run: the run's id, for the label.
    """

    def __init__(self, client: docker.DockerClient, image: str, run: str) -> None:
        self._client = client
        self._image = image
        self._run = run
        self._container = ""
        self._listeners: dict[int, socket.socket] = {}
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._kept: SupervisedProcess | None = None
        self.said = ""
        """Why the newest connection that ended could not be made or kept; empty where it could."""

    def start(self) -> "Relay":
        """Start the container over there.

        Raises:
            EngineError: the engine refused.
        """
        with engine_errors():
            with signals.deferred():
                created = self._client.api.create_container(
                    self._image,
                    command=FOREVER,
                    name=names.new(self._run, "relay"),
                    labels={labels.RUN: self._run},
                    stop_signal="SIGKILL",  # the first process of a container ignores SIGTERM
                    host_config=self._client.api.create_host_config(network_mode="host", userns_mode="host"),
                )
            self._container = str(created["Id"])
            self._client.api.start(self._container)
        return self

    def require(self) -> None:
        """Check that the container still runs.

        Raises:
            EngineError: it does not, or the engine is gone.
        """
        with engine_errors():
            state = self._client.api.inspect_container(self._container)["State"]
        if not state["Running"]:
            raise EngineError(
                f"the relay container {self._container[:12]}, through which libvirt is reached, has ended", "run again"
            )

    def socket_to(self, port: int) -> Path:
        """Return the UNIX socket that leads to a port; it stays until :meth:`close`.

        Raises:
            EngineError: it cannot be made on this machine.
        """
        try:
            self._kept = self._kept or SupervisedProcess()
            path = self._kept.path / f"{port}.sock"
            if port not in self._listeners:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(path))
                path.chmod(0o600)
                listener.listen()
                self._listeners[port] = listener
                self._begin(self._accept, listener, port)
        except OSError as error:
            raise EngineError(f"no UNIX socket can be made: {error}", "set TMPDIR to another folder") from error
        return path

    def close(self) -> None:
        """End all connections and remove the container."""
        for one in (*self._listeners.values(), *tuple(self._open)):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it; close alone does not
        for thread in self._threads:
            thread.join(2 * END_SECONDS)
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._kept:
            self._kept.close()
        with engine_errors(), contextlib.suppress(docker.errors.NotFound):
            self._client.api.remove_container(self._container, force=True)

    def _begin(self, target: Any, *arguments: Any) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=target, args=arguments, name="relay", daemon=True))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self._open.add(near)
            self._begin(self._connect, near, port)

    def _connect(self, near: socket.socket, port: int) -> None:
        with near:  # closed when it can be said why
            try:
                self._carry(near, port)
            except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                self.said = str(error)
            finally:
                self._open.discard(near)

    def _carry(self, near: socket.socket, port: int) -> None:
        """Connect to the port over there, and carry until a side ends."""
        command = self._client.api.exec_create(self._container, [*CONNECT, str(port)], stdin=True)
        with contextlib.closing(Stream(self._client, command["Id"])) as stream:
            pump = Pump(near, stream.socket, stream.early)
            pump.run()
        process, _, words = pump.said.decode(errors="replace").partition("\n")
        self.said = words.strip()
        if not pump.ended and process.isdigit():
            # What it is connected to hangs, and an engine lets go of a command without ending it.
            end = self._client.api.exec_create(self._container, ["/bin/busybox", "kill", "-KILL", process])
            self._client.api.exec_start(end["Id"])
