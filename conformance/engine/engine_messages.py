"""Messages of an engine's long calls, such as pull and build."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from conformance.errors import EngineError

Progress = Callable[[str], None]


def messages(call: Callable[[], Iterator[dict[str, Any]]], silence: float) -> Iterator[dict[str, Any]]:
    """Yield an engine's messages; docker-py sets no deadline for them.

    Raises:
        EngineError: nothing came for ``silence`` seconds.
    """
    received: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for message in call():
                received.put(message)
            received.put(None)
        except BaseException as error:
            received.put(error)  # raised where the messages are read

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            message = received.get(timeout=silence)
        except queue.Empty:
            raise EngineError(
                f"the engine sent nothing for {silence:g} s", "read the engine's log, or restart it"
            ) from None
        if message is None:
            return
        if isinstance(message, BaseException):
            raise message
        yield message


def tail(lines: list[str], count: int = 12) -> str:
    """Return the last lines, indented."""
    return "\n".join(f"    {line}" for line in lines[-count:])
