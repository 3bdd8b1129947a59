"""Several selfchecks side by side: each asks what no other one is asking, and what is recorded is everybody's."""

import contextlib
import errno
import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from conformance.util import paths

END_SECONDS = 240
"""For one that is to end: its container stops, and what it made is removed."""

LOOK_SECONDS = 0.5
"""Between two looks at what others have recorded."""


@contextlib.contextmanager
def claimed(what: str) -> Iterator[bool]:
    """Have a question to oneself for as long as this lasts; says whether it can be had.

    An abstract socket, not filelock: it leaves no file behind for each question.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0libvirt-conformance-selfcheck-{hashlib.sha256(what.encode()).hexdigest()[:32]}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            yield False
        else:
            yield True


@contextlib.contextmanager
def helped(by: int, words: Sequence[str], progress: Callable[[str], None]) -> Iterator[None]:
    """Have so many other processes ask as well, for as long as this lasts.

    One that ends early is told of and not missed: what it leaves, whoever is left asks.

    Args:
        by: how many.
        words: of :mod:`conformance.selfcheck.worker`.
        progress: told of one that could not help.
    """
    logs = [paths.cache() / f"selfcheck-{number}.log" for number in range(2, by + 2)]
    helpers = [_helper(words, log) for log in logs]
    try:
        yield
        _wait(helpers)
        for one, log in zip(helpers, logs, strict=True):
            if one.poll():
                progress(f"one that was to help ended with status {one.returncode}: {log}")
    finally:
        for one in helpers:
            one.terminate()
        _wait(helpers)


def _wait(helpers: Sequence["subprocess.Popen[bytes]"]) -> None:
    for one in helpers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(END_SECONDS)


def _helper(words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            # It must not outlive whom it helps, killed or not (prctl(2), PR_SET_PDEATHSIG). Not what lies in the
            # current folder: pytest would take it for a second project with the same plugin.
            [
                *("setpriv", "--pdeathsig", "TERM", "--"),
                *(sys.executable, "-P", "-m", "conformance.selfcheck.worker", *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's ctrl-C reaches it through this process, once
        )
