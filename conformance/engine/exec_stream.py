"""Standard streams of a command in a container, complete also over a slow connection.

docker-py reads on from the socket, past what came together with the head of the engine's answer, and loses that.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import docker

STDOUT, STDERR = 1, 2

HEAD_BYTES = 8

LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that does not block raises for: not now."""


class Frames:
    """Splits the engine's multiplexed stream: ``[stream, 0, 0, 0, size (4 bytes, big-endian)]`` before each piece.

    The Docker Engine API says so under attaching to a container, "Stream format".
    """

    def __init__(self) -> None:
        self._head = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield stream and content of as much of each frame as is there; frames may be cut anywhere."""
        rest = memoryview(data)
        while rest:
            if self._left:
                piece, rest = bytes(rest[: self._left]), rest[self._left :]
                self._left -= len(piece)
                yield self._stream, piece
                continue
            missing = HEAD_BYTES - len(self._head)
            self._head += bytes(rest[:missing])
            rest = rest[missing:]
            if len(self._head) == HEAD_BYTES:
                self._stream, self._left = self._head[0], int.from_bytes(self._head[4:], "big")
                self._head = b""


class Stream:
    """A command's standard streams, as a socket on which they are multiplexed.

    Args:
        client: the engine.
        command: the id of a command that was created; it is started.

    Attributes:
        socket: standard input goes into it, and out of it come frames.
        early: what came out of it already.
    """

    def __init__(self, client: docker.DockerClient, command: str) -> None:
        answer: Any = client.api.exec_start(command, socket=True)
        self._response = answer._response
        self.socket: socket.socket = getattr(answer, "_sock", answer)
        self.socket.setblocking(False)
        self.early = b""
        with contextlib.suppress(*LATER):
            self.early = bytes(self._response.raw._fp.fp.peek())
        self.socket.setblocking(True)

    def close(self) -> None:
        """Let go of the command, which goes on."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._response.close()


def output(client: docker.DockerClient, command: str) -> tuple[bytes, bytes]:
    """Start a command, and return what it writes to its standard streams until it ends; there is no deadline.

    Raises:
        docker.errors.DockerException: the engine refused.
        requests.exceptions.RequestException, ConnectionError: it is gone.
    """
    written = {STDOUT: bytearray(), STDERR: bytearray()}
    frames = Frames()
    with contextlib.closing(Stream(client, command)) as stream:
        data = stream.early or stream.socket.recv(1 << 16)
        while data:
            for one, piece in frames.feed(data):
                written[one] += piece
            data = stream.socket.recv(1 << 16)
    return bytes(written[STDOUT]), bytes(written[STDERR])
