"""Ctrl-C at a moment when it can be answered for."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let ctrl-C wait for the end of a short step, such as a call that makes something on the engine.

    An engine finishes a call whose caller has gone away: what it makes then would come after the clean-up. A second
    ctrl-C does not wait, in case the engine hangs.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pending: list[FrameType | None] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pending:
            before(number, frame)
        pending.append(frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        before(signal.SIGINT, pending[0])
