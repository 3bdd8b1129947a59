"""Waiting with a deadline: every wait says what it waited for and what it saw instead."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from conformance.errors import HarnessError, ImageLate

T = TypeVar("T")


LONGEST_PAUSE = 1.0
"""Seconds between two questions that take long each."""


REMEDY = "run it again when the machine has less to do; if it fails again, report this message"


class DeadlineExpired(HarnessError):
    """A wait ended without what it waited for; blames the harness, unless it expires in :func:`for_image`.

    Args:
        what: what was waited for, as a noun phrase.
        seconds: the deadline, in seconds.
        seen: what was there instead.
    """

    def __init__(self, what: str, seconds: float, seen: str) -> None:
        super().__init__(f"waited {seconds:g} s for {what}; instead: {seen or 'nothing was seen'}", REMEDY)


@contextlib.contextmanager
def for_image() -> Iterator[None]:
    """Wait for the image under test: in here, an expired deadline is its failure.

    Raises:
        ImageLate: a deadline expired.
    """
    try:
        yield
    except DeadlineExpired as error:
        raise ImageLate(error.message) from error


def wait_for(
    what: str,
    ask: Callable[[], T | None],
    *,
    seconds: float,
    interval: float = 0.1,
    seen: Callable[[], str] = lambda: "",
) -> T:
    """Call ``ask`` until it answers something other than None or False, and return that.

    Args:
        what: what is waited for, as a noun phrase; part of the error.
        ask: the question; an exception ends the wait at once.
        seconds: deadline in seconds.
        interval: pause between two questions, in seconds. After a question that took longer it is as long as that, but
            for :data:`LONGEST_PAUSE`: asking would keep a slow host from what is waited for.
        seen: describes the state at expiry, for the error.

    Raises:
        DeadlineExpired: ``ask`` had no answer within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        now = time.monotonic()
        if now >= deadline:
            raise DeadlineExpired(what, seconds, seen())
        time.sleep(max(interval, min(now - asked, LONGEST_PAUSE)))


def within(what: str, call: Callable[[], T], *, seconds: float) -> T:
    """Make a call that may block for ever, in a thread of its own, and give up after ``seconds``.

    Raises:
        DeadlineExpired: the call was still running; its thread is left behind.
    """
    answer: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            answer.append(call())
        except BaseException as error:
            failure.append(error)  # the caller's to handle, in its own thread

    thread = threading.Thread(target=body, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not answer:
        raise DeadlineExpired(what, seconds, "no answer")
    return answer[0]
