"""Frames of the engine, and what came before anybody read."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.engine import exec_stream
from conformance.engine.exec_stream import STDERR, STDOUT, Frames


def frame(data: bytes, stream: int = STDOUT) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1000])
def test_frames_cut_anywhere(size: int) -> None:
    whole = frame(b"libvirt says") + frame(b"", STDERR) + frame(b"oh", STDERR) + frame(b"x" * 500) + frame(b"end")
    frames = Frames()
    found = [piece for at in range(0, len(whole), size) for piece in frames.feed(whole[at : at + size])]
    assert b"".join(data for stream, data in found if stream == STDOUT) == b"libvirt says" + b"x" * 500 + b"end"
    assert b"".join(data for stream, data in found if stream == STDERR) == b"oh"


@pytest.mark.parametrize("early", [0, 5, 8, 11, 100])
def test_what_came_along_with_the_head_of_the_answer_is_not_lost(early: int) -> None:
    ours, theirs = socket.socketpair()
    head = ours.makefile("rb")
    whole = b"HTTP/1.1 101 UPGRADED\r\n" + frame(b"hello\n") + frame(b"oh", STDERR) + frame(b"end")
    cut = whole.index(b"\n") + 1 + early
    theirs.sendall(whole[:cut])
    head.readline()  # reads ahead
    theirs.sendall(whole[cut:])
    theirs.close()

    response = SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=head)), close=head.close)
    answer = SimpleNamespace(_sock=ours, _response=response)
    client: Any = SimpleNamespace(api=SimpleNamespace(exec_start=lambda _id, socket: answer))

    assert exec_stream.output(client, "command") == (b"hello\nend", b"oh")


def test_a_command_that_writes_nothing() -> None:
    ours, theirs = socket.socketpair()
    head = ours.makefile("rb")
    theirs.close()
    response = SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=head)), close=head.close)
    answer = SimpleNamespace(_sock=ours, _response=response)
    client: Any = SimpleNamespace(api=SimpleNamespace(exec_start=lambda _id, socket: answer))

    assert exec_stream.output(client, "command") == (b"", b"")
