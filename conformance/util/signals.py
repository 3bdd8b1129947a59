"""Ctrl-C, and what is as good as it, at a moment when it can be answered for."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end, and can be answered: ctrl-C, kill(1), and a terminal that is closed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP; a KeyboardInterrupt, because that is what pytest and everybody else cleans up after."""


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as SIGINT does, by :class:`Terminated`."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Terminated(signal.Signals(number).name)

    # Under nohup a terminal's end is ignored, and stays so.
    heard = [one for one in SIGNALS if one != signal.SIGINT and signal.getsignal(one) is not signal.SIG_IGN]
    with _handlers(dict.fromkeys(heard, interrupt)):
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let an end that has begun come to its end: it has deadlines of its own."""
    with _handlers(dict.fromkeys(SIGNALS, signal.SIG_IGN)):
        yield


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let ctrl-C wait for the end of a short step, such as a call that makes something on the engine.

    An engine finishes a call whose caller has gone away: what it makes then would come after the clean-up. A second
    ctrl-C does not wait, in case the engine hangs.
    """
    before: dict[signal.Signals, Handler] = {}
    for one in SIGNALS:
        if callable(handler := signal.getsignal(one)):
            before[one] = handler
    pending: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        pending.append((number, frame))
        if len(pending) > 1:
            before[signal.Signals(number)](number, frame)

    try:
        with _handlers(dict.fromkeys(before, note)):
            yield
    finally:  # also where the step failed: whoever pressed ctrl-C wants the end, not the next step
        if pending:
            number, frame = pending[0]
            before[signal.Signals(number)](number, frame)


@contextlib.contextmanager
def _handlers(wanted: Mapping[signal.Signals, Handler | signal.Handlers]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
