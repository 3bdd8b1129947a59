"""QEMU's monitor: what it answers, and that it does not."""

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from conformance.errors import LabError
from conformance.lab import monitor as monitors
from conformance.lab.monitor import monitor

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\n'
OK = b'{"return": {}}\n'
EVENT = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\n'


class Qemu:
    """A monitor that greets, and answers each order with what comes next; then it says nothing or closes."""

    def __init__(self, path: Path, answers: Sequence[bytes], *, close: bool) -> None:
        self.asked: list[dict[str, object]] = []
        self._answers = answers
        self._close = close
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(GREETING)
            for answer in self._answers:
                self.asked.append(json.loads(lines.readline()))
                connection.sendall(answer)
            if not self._close:
                lines.read()

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path so short that sockets fit into it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Qemu]]:
    made: list[Qemu] = []

    def start(*answers: bytes, close: bool = False) -> Qemu:
        made.append(Qemu(folder / "monitor", answers, close=close))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_an_order_is_given_and_its_answer_returned(folder: Path, serve: Callable[..., Qemu]) -> None:
    qemu = serve(OK, b'{"return": {"status": "running"}}\n')
    with monitor(folder / "monitor") as asked:
        assert asked.ask("query-status", max_=1) == {"status": "running"}
    assert qemu.asked == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "query-status", "arguments": {"max_": 1}},
    ]


def test_events_come_in_between(folder: Path, serve: Callable[..., Qemu]) -> None:
    serve(EVENT + OK, EVENT + EVENT + b'{"return": 7}\n')
    with monitor(folder / "monitor") as asked:
        assert asked.ask("stop") == 7


def test_a_refusal_is_told_and_the_next_order_is_taken(folder: Path, serve: Callable[..., Qemu]) -> None:
    serve(OK, b'{"error": {"class": "GenericError", "desc": "no such thing"}}\n', OK)
    with monitor(folder / "monitor") as asked:
        with pytest.raises(LabError, match="refuses migrate: no such thing"):
            asked.ask("migrate", uri="exec:true")
        assert asked.ask("cont") == {}


def test_one_that_closes(folder: Path, serve: Callable[..., Qemu]) -> None:
    serve(OK, b"", close=True)
    with monitor(folder / "monitor") as asked, pytest.raises(LabError, match="closed its monitor"):
        asked.ask("cont")


def test_one_that_is_silent(folder: Path, serve: Callable[..., Qemu], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "ANSWER_SECONDS", 0.3)
    serve(OK, b"")
    with monitor(folder / "monitor") as asked, pytest.raises(LabError, match="does not answer its monitor: timed out"):
        asked.ask("cont")


def test_one_that_never_greets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "ANSWER_SECONDS", 0.3)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "monitor"))
        listener.listen()
        with pytest.raises(LabError, match="does not answer its monitor"), monitor(folder / "monitor"):
            pytest.fail("it was entered")


def test_what_is_no_answer(folder: Path, serve: Callable[..., Qemu]) -> None:
    serve(OK, b"half a li\n")
    with monitor(folder / "monitor") as asked, pytest.raises(LabError, match="does not answer its monitor"):
        asked.ask("cont")


def test_one_that_does_not_listen_yet_is_waited_for(
    folder: Path, serve: Callable[..., Qemu], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "monitor"))
        looked: list[bool] = []

        def wait_for(_what: str, ask: Callable[[], bool], **_options: float) -> None:
            looked.append(ask())
            (folder / "monitor").unlink()
            serve(OK, OK)
            looked.append(ask())

        monkeypatch.setattr(monitors, "wait_for", wait_for)
        with monitor(folder / "monitor") as asked:
            assert asked.ask("cont") == {}
    assert looked == [False, True]


@pytest.mark.parametrize("there", [False, True])
def test_none_at_all(folder: Path, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "LISTEN_SECONDS", 0)
    if there:  # of a QEMU that was killed
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "monitor"))
    with pytest.raises(LabError, match="does not answer its monitor"), monitor(folder / "monitor"):
        pytest.fail("it was entered")
