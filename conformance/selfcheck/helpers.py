"""Helper processes: each tests changes that no other one is testing, and all share the records."""

import contextlib
import errno
import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from conformance.util import paths

Task = TypeVar("Task")
Answer = TypeVar("Answer")

END_SECONDS = 240
"""Deadline for the end of a helper, which stops its container and cleans up."""

LOOK_SECONDS = 0.5
"""Pause between two reads of the others' records."""


@contextlib.contextmanager
def claimed(what: str) -> Iterator[bool]:
    """Claim a test of a change for this process until the end of the context; yield whether it is free.

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


def share(
    tasks: Sequence[Task],
    *,
    name: Callable[[Task], str],
    answer: Callable[[Task], Answer | None],
    test: Callable[[Task], Answer],
    stopped: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Do each task that no other process is doing; later those that others gave up.

    Args:
        tasks: the tasks, in their order.
        name: the name of a task, the same in each process.
        answer: the recorded answer to a task, if any.
        test: does a task and records its answer.
        stopped: whether no further task may begin.

    Returns:
        The answers in the order of the tasks; without those that nobody did before the stop.
    """
    found: dict[int, Answer] = {}
    while len(found) < len(tasks) and not stopped():
        before = len(found)
        for number, task in enumerate(tasks):
            if number in found or stopped():
                continue
            with claimed(name(task)) as mine:
                if there := answer(task) or (test(task) if mine else None):
                    found[number] = there
        if len(found) == before:
            time.sleep(LOOK_SECONDS)
    return [found[number] for number in sorted(found)]


@contextlib.contextmanager
def helped(by: int, module: str, words: Sequence[str], progress: Callable[[str], None]) -> Iterator[None]:
    """Run helper processes until the end of the context.

    If one ends early, the others test its changes.

    Args:
        by: the number of helpers.
        module: the Python module that each helper runs.
        words: its arguments.
        progress: gets a message for each helper that failed.
    """
    name = module.split(".")[1]
    logs = [paths.cache() / f"{name}-{number}.log" for number in range(2, by + 2)]
    helpers = [_helper(module, words, log) for log in logs]
    try:
        yield
        _wait(helpers)
        for one, log in zip(helpers, logs, strict=True):
            if one.poll():
                progress(f"a helper process ended with status {one.returncode}; its output: {log}")
    finally:
        for one in helpers:
            one.terminate()
        _wait(helpers)


def _wait(helpers: Sequence["subprocess.Popen[bytes]"]) -> None:
    for one in helpers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.wait(END_SECONDS)


def _helper(module: str, words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            # It ends with its parent, even if that is killed (prctl(2), PR_SET_PDEATHSIG). -P: modules in the current
            # folder would be a second copy of the plugin for pytest.
            [
                *("setpriv", "--pdeathsig", "TERM", "--"),
                *(sys.executable, "-P", "-m", module, *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # this process passes on a terminal's ctrl-C, once
        )
