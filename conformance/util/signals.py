"""Ctrl-C and similar signals: treats them alike, ignores them during clean-up, or defers them over short steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals of ctrl-C, kill(1) and a closed terminal."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP; a KeyboardInterrupt, because pytest and other code clean up after that."""


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as SIGINT does, with :class:`Terminated`."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Terminated(signal.Signals(number).name)

    # nohup ignores SIGHUP, which stays ignored.
    heard = [one for one in SIGNALS if one != signal.SIGINT and signal.getsignal(one) is not signal.SIG_IGN]
    with _handlers(dict.fromkeys(heard, interrupt)):
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore signals during a clean-up, which has deadlines of its own."""
    with _handlers(dict.fromkeys(SIGNALS, signal.SIG_IGN)):
        yield


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defer ctrl-C until the end of a short step, such as a call that makes something on the engine.

    An engine finishes a call even if the caller has gone away, and its result would come after the clean-up. A second
    ctrl-C takes effect at once, in case the engine hangs.
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
    finally:  # also if the step failed: ctrl-C means the end
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
