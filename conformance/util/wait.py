"""Waits with a deadline: the error of each names the awaited state and the state at expiry."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from conformance.errors import HarnessError, ImageLate

LOG = logging.getLogger(__name__)

T = TypeVar("T")


LONGEST_PAUSE = 1.0
"""Seconds between two queries that take long each."""


REMEDY = "run it again when the machine has less to do; if it fails again, report this message"


class DeadlineExpired(HarnessError):
    """A wait did not reach the awaited state; blames the harness, unless it expires in :func:`for_image`.

    Args:
        what: the awaited state, as a noun phrase.
        seconds: the deadline, in seconds.
        seen: the state at expiry.
    """

    def __init__(self, what: str, seconds: float, seen: str) -> None:
        super().__init__(f"waited {seconds:g} s for {what}; instead: {seen or 'nothing was seen'}", REMEDY)


@contextlib.contextmanager
def for_image() -> Iterator[None]:
    """Wait for the image under test: a deadline that expires in this context is the image's failure.

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
    """Call ``ask`` until it returns something other than None or False, and return that.

    Args:
        what: the awaited state, as a noun phrase; part of the error.
        ask: the query; an exception ends the wait at once.
        seconds: deadline in seconds.
        interval: pause between two queries, in seconds. After a query that took longer, the pause is as long as that
            query, up to :data:`LONGEST_PAUSE`: frequent queries would slow down a slow host further.
        seen: describes the state at expiry, for the error.

    Raises:
        DeadlineExpired: ``ask`` returned nothing within ``seconds``.
    """
    began = time.monotonic()
    deadline = began + seconds
    waiting = False
    while True:
        asked = time.monotonic()
        answer = ask()
        now = time.monotonic()
        if answer is not None and answer is not False:
            if waiting:
                LOG.debug("%s: after %.2f s", what, now - began)
            return answer
        if now >= deadline:
            LOG.debug("%s: not within %g s", what, seconds)
            raise DeadlineExpired(what, seconds, seen())
        if not waiting:
            LOG.debug("waiting for %s, for up to %g s", what, seconds)
            waiting = True
        time.sleep(max(interval, min(now - asked, LONGEST_PAUSE)))


def within(what: str, call: Callable[[], T], *, seconds: float) -> T:
    """Make a call that may block for ever, in a thread of its own, and give up after ``seconds``.

    Raises:
        DeadlineExpired: the call was still running; its thread stays behind.
    """
    answer: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            answer.append(call())
        except BaseException as error:
            failure.append(error)  # raised in the caller's thread

    began = time.monotonic()
    thread = threading.Thread(target=body, name=what, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not answer:
        LOG.debug("%s: no answer within %g s", what, seconds)
        raise DeadlineExpired(what, seconds, "no answer")
    LOG.debug("%s: after %.2f s", what, time.monotonic() - began)
    return answer[0]
