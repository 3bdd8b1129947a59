"""Bytes between a client and an engine's multiplexed stream."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socketpair
from typing import Any

import docker.errors
import pytest

from conformance.engine import port_relay
from conformance.engine.exec_stream import STDERR, STDOUT
from conformance.engine.port_relay import Pump, Relay
from conformance.errors import EngineError
from conformance.util.wait import wait_for


def frame(data: bytes, stream: int = STDOUT) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


# ------------------------------------------------------------------------------------------------------ pump


class Carried:
    """A pump at work between two sockets."""

    def __init__(self, early: bytes = b"") -> None:
        self.client, near = socket.socketpair()
        self.engine, far = socket.socketpair()
        self.pump = Pump(near, far, early)
        for one in (self.client, self.engine):
            one.settimeout(20)

        def run() -> None:
            self.pump.run()
            near.close()
            far.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def ended(self) -> bool:
        self.thread.join(20)
        return not self.thread.is_alive()


@pytest.fixture
def carried() -> Iterator[Carried]:
    one = Carried()
    yield one
    one.client.close()
    one.engine.close()
    assert one.ended()


def read(one: socket.socket) -> bytes:
    """Read to the end."""
    found = b""
    while data := one.recv(1 << 16):
        found += data
    return found


def test_both_ways(carried: Carried) -> None:
    carried.client.sendall(b"question")
    assert carried.engine.recv(100) == b"question"
    carried.engine.sendall(frame(b"17\n", STDERR) + frame(b"answer"))
    assert carried.client.recv(100) == b"answer"
    assert carried.pump.said == b"17\n"


def test_what_came_early_is_first() -> None:
    one = Carried(frame(b"17\n", STDERR) + frame(b"early, ")[:9])
    one.engine.sendall(frame(b"early, ")[9:] + frame(b"late"))
    one.engine.close()
    assert read(one.client) == b"early, late"
    assert one.ended()


def test_the_end_over_there_ends_the_client_after_its_last_bytes(carried: Carried) -> None:
    carried.engine.sendall(frame(b"last words"))
    carried.engine.close()
    assert read(carried.client) == b"last words"
    assert carried.ended()
    assert carried.pump.ended


def test_a_client_that_ends_half_still_hears(carried: Carried) -> None:
    carried.client.sendall(b"all of it")
    carried.client.shutdown(socket.SHUT_WR)
    assert read(carried.engine) == b"all of it"
    time.sleep(0.2)
    carried.engine.sendall(frame(b"thanks"))
    carried.engine.close()
    assert read(carried.client) == b"thanks"
    assert carried.ended()


def test_a_client_that_closes_has_sent_everything_and_the_end_over_there_is_awaited(carried: Carried) -> None:
    data = os.urandom(150_000)  # more than what the engine's socket takes at once
    carried.client.sendall(data)
    carried.client.close()
    assert read(carried.engine) == data
    assert carried.thread.is_alive()
    carried.engine.sendall(frame(b"for nobody"))
    carried.engine.close()
    assert carried.ended()
    assert carried.pump.ended


def test_an_end_over_there_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_relay, "END_SECONDS", 0.2)
    one = Carried()
    one.client.close()
    assert one.ended()
    assert not one.pump.ended


def test_an_engine_that_is_torn_away_ends_the_client_at_once(carried: Carried) -> None:
    carried.client.sendall(b"x" * 100_000)
    carried.engine.close()  # with unread bytes: a reset
    with contextlib.suppress(ConnectionError):
        read(carried.client)
    assert carried.ended()


def test_much_at_once_both_ways(carried: Carried) -> None:
    up, down = os.urandom(8 << 20), os.urandom(8 << 20)
    got: dict[str, str] = {}

    def send(one: socket.socket, data: bytes) -> None:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)

    def receive(one: socket.socket, name: str) -> None:
        got[name] = hashlib.sha256(read(one)).hexdigest()

    framed = b"".join(frame(down[at : at + 32768]) for at in range(0, len(down), 32768))
    threads = [
        threading.Thread(target=send, args=(carried.client, up)),
        threading.Thread(target=receive, args=(carried.engine, "up")),
        threading.Thread(target=receive, args=(carried.client, "down")),
    ]
    for one in threads:
        one.start()
    threads[1].join(60)
    send(carried.engine, framed)
    for one in threads:
        one.join(60)
    assert got == {"up": hashlib.sha256(up).hexdigest(), "down": hashlib.sha256(down).hexdigest()}


def test_a_slow_client_makes_the_engine_wait_and_not_the_memory_grow(carried: Carried) -> None:
    carried.engine.setblocking(False)
    sent = 0
    idle = 0
    while idle < 20:
        try:
            sent += carried.engine.send(frame(b"x" * 32760))
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.02)
        assert sent < 16 << 20
    assert len(carried.pump._down) < 3 * port_relay.BUFFER_BYTES
    # While everything is full it waits; it does not turn.
    before = time.thread_time_ns(), time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before[1] < 0.25


def test_a_client_that_ended_half_costs_no_time_while_it_waits(carried: Carried) -> None:
    carried.client.shutdown(socket.SHUT_WR)
    assert read(carried.engine) == b""
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.25


# ----------------------------------------------------------------------------------------------------- relay


class Answer:
    """What docker-py gives for a command's stream: the socket, and a buffer that read ahead."""

    def __init__(self, far: socket.socket) -> None:
        self._sock = far
        head = far.makefile("rb")
        fp = type("Fp", (), {"fp": head})()
        raw = type("Raw", (), {"_fp": fp})()
        self._response = type("Response", (), {"raw": raw, "close": lambda _self: self._close()})()
        self._head = head

    def _close(self) -> None:
        self._head.close()
        self._sock.close()


class Api:
    """An engine that runs commands: the other ends of their streams are in ``streams``."""

    def __init__(self) -> None:
        self.streams: list[socket.socket] = []
        self.commands: list[list[str]] = []
        self.running = True
        self.removed: list[str] = []

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_container(self, image: str, **options: Any) -> dict[str, str]:
        assert options["host_config"]["network_mode"] == "host"
        return {"Id": "relay"}

    def start(self, _container: str) -> None: ...

    def inspect_container(self, _container: str) -> dict[str, Any]:
        return {"State": {"Running": self.running}}

    def remove_container(self, container: str, force: bool) -> None:
        self.removed.append(container)

    def exec_create(self, _container: str, words: list[str], stdin: bool = False) -> dict[str, str]:
        if not self.running:
            raise docker.errors.APIError("no", explanation="container is not running")
        self.commands.append(words)
        return {"Id": "exec"}

    def exec_start(self, _id: str, socket: bool = False) -> Any:
        if not socket:
            return b""
        ours, theirs = socketpair()
        self.streams.append(theirs)
        theirs.sendall(frame(b"17\n", STDERR))
        return Answer(ours)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def way(api: Api) -> Iterator[Relay]:
    one = Relay(type("Client", (), {"api": api})(), "peer:1", "run").start()
    yield one
    one.close()
    assert api.removed == ["relay"]
    assert not [thread for thread in threading.enumerate() if thread.name == "relay" and thread.is_alive()]


def dial(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(20)
    one.connect(str(path))
    return one


def test_a_connection_is_a_command_over_there(way: Relay, api: Api) -> None:
    path = way.socket_to(16509)
    assert way.socket_to(16509) == path != way.socket_to(16510)
    assert path.stat().st_mode & 0o777 == 0o600
    with dial(path) as client:
        client.sendall(b"hello")
        wait_for("the command", lambda: bool(api.streams), seconds=20)
        assert api.streams[0].recv(100) == b"hello"
        api.streams[0].sendall(frame(b"hello yourself"))
        assert client.recv(100) == b"hello yourself"
        assert api.commands[0][-1] == "16509"
        api.streams[0].sendall(frame(b"nc: can't connect\n", STDERR))
        api.streams[0].close()
        assert client.recv(100) == b""
    wait_for("the reason", lambda: bool(way.said), seconds=20)
    assert way.said == "nc: can't connect"
    assert len(api.commands) == 1


def test_a_command_that_outlives_its_client_is_ended(way: Relay, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_relay, "END_SECONDS", 0.2)
    dial(way.socket_to(16509)).close()
    wait_for("the command's end", lambda: len(api.commands) == 2, seconds=20)
    assert api.commands[1] == ["/bin/busybox", "kill", "-KILL", "17"]


def test_a_container_that_ended_ends_the_client_at_once_and_says_so(way: Relay, api: Api) -> None:
    api.running = False
    with dial(way.socket_to(16509)) as client:
        assert client.recv(100) == b""
    assert "not running" in way.said
    with pytest.raises(EngineError, match="relay container"):
        way.require()


def test_the_end_of_all_ends_open_connections(way: Relay, api: Api) -> None:
    client = dial(way.socket_to(16509))
    wait_for("the command", lambda: bool(api.streams), seconds=20)
    threading.Timer(0.3, api.streams[0].close).start()
    way.close()
    assert client.recv(100) == b""
    api.removed.clear()
