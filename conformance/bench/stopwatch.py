"""A stop-watch for a block of code."""

import contextlib
import time
from collections.abc import Iterator


@contextlib.contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append how long this lasted."""
    began = time.monotonic()
    yield
    seconds.append(round(time.monotonic() - began, 6))  # never 0, which is divided by
