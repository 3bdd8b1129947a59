"""QEMU's monitor, by its own protocol (QMP; qemu: docs/interop/qmp-spec)."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.errors import LabError
from conformance.util.wait import DeadlineExpired, wait_for

ANSWER_SECONDS = 10

RESTART = "restart the lab: conformance lab down, then conformance lab up"

LISTEN_SECONDS = 5
"""Time from bind(2) to listen(2) in QEMU: microseconds, longer on a busy machine."""


class Monitor:
    """A connection to a QEMU's monitor.

    Args:
        path: its socket.

    Raises:
        LabError: QEMU does not answer.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            wait_for("QEMU to listen", lambda: self._connects(path), seconds=LISTEN_SECONDS, interval=0.02)
            self._lines = self._socket.makefile("rb")
            self._lines.readline()  # the greeting
        except (OSError, DeadlineExpired) as error:
            self._socket.close()
            why = error.message if isinstance(error, DeadlineExpired) else error
            raise LabError(f"the lab's QEMU does not answer its monitor: {why}", RESTART) from error
        self.ask("qmp_capabilities")

    def _connects(self, path: Path) -> bool:
        try:
            self._socket.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command, and return its result.

        Raises:
            LabError: QEMU refuses, or does not answer within :data:`ANSWER_SECONDS`.
        """
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            for line in self._lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise LabError(f"the lab's QEMU refuses {command}: {answer['error'].get('desc')}", RESTART)
                if "return" in answer:  # events come in between
                    return answer["return"]
        except (OSError, ValueError) as error:
            raise LabError(f"the lab's QEMU does not answer its monitor: {error}", RESTART) from error
        raise LabError("the lab's QEMU closed its monitor", RESTART)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextlib.contextmanager
def monitor(path: Path) -> Iterator[Monitor]:
    """Open a connection to a QEMU's monitor, and close it at the end."""
    connection = Monitor(path)
    try:
        yield connection
    finally:
        connection.close()
