"""Runs programs that take minutes: their output goes into a file, its end into the error."""

import contextlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.errors import LabError
from conformance.util import signals

LOG = logging.getLogger(__name__)

TERMINATE_SECONDS = 30
"""Deadline for an ended program to remove its temporary files."""

TIED = (
    *("setpriv", "--pdeathsig", "TERM", "--"),
    *("sh", "-c", 'trap "trap : TERM; kill 0; wait" TERM; "$@" & wait "$!"', "sh"),
)
"""Ends a program and its children if this process is killed (prctl(2), PR_SET_PDEATHSIG).

The signal goes to the shell only, which passes it to the whole group: mmdebstrap waits for its children to get it too.
"""


NAMESPACE = (
    *("unshare", "--user", "--map-root-user", "--map-auto"),
    *("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)
"""Namespaces in which this user is root of its own users and mounts (user_namespaces(7)); it still owns the files."""


def as_root(command: Sequence[str]) -> list[str]:
    """Return the command that can make files of every owner, also for users other than root."""
    return [*([] if os.geteuid() == 0 else NAMESPACE), *command]


def run(
    command: Sequence[str],
    *,
    log: Path,
    seconds: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end; ctrl-C ends it and all that it started.

    Args:
        command: the program and its arguments.
        log: the file to which its output is appended.
        seconds: the deadline.
        folder: its working directory.
        environment: variables beside the present ones.

    Raises:
        LabError: the program is not installed, failed, or did not end in time.
    """
    variables = {**os.environ, **(environment or {})}
    if shutil.which(command[0], path=variables.get("PATH")) is None:
        raise LabError(f"{command[0]} is not installed", "./run lab installs what a lab needs")
    LOG.debug("running %s (output: %s)", shlex.join(command), log)
    began = time.monotonic()
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("ab") as output, signals.deferred():
            process = subprocess.Popen(
                [*TIED, *command],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        status = process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} did not end within {seconds:g} s", f"read {log}") from error
    finally:
        if process and process.poll() is None:
            with signals.undisturbed():
                _end(process)
    LOG.debug("%s: status %d after %.1f s", command[0], status, time.monotonic() - began)
    if status != 0:
        raise LabError(f"{command[0]} failed with status {status}; its last words:\n{tail(log)}", remedy(log))


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TERMINATE_SECONDS)
    with contextlib.suppress(ProcessLookupError):  # the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def peak_memory(pid: int) -> int:
    """Return the most memory that a process ever had resident, in bytes (VmHWM; proc(5)).

    Parsed by hand: psutil has no peak on Linux, and getrusage(2) counts the program before exec as well.

    Raises:
        LabError: the process has ended.
    """
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        if peak := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):  # a zombie has none
            return int(peak[1]) * 1024
    raise LabError(f"cannot read the peak memory of process {pid}: the process has ended", "run it again")


def sweep(folder: Path, pattern: str) -> None:
    """Remove folders that killed processes left; the caller holds the lock of their makers."""
    for left in folder.glob(pattern):
        shutil.rmtree(left, ignore_errors=True)


def tail(log: Path, lines: int = 12) -> str:
    """Return the end of a file as an indented block, without control characters."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "    (nothing)"
    shown = ["".join(char for char in line if char.isprintable()) for line in text.replace("\r", "\n").splitlines()]
    return "\n".join(f"    {line}" for line in [line for line in shown if line.strip()][-lines:]) or "    (nothing)"


def remedy(log: Path) -> str:
    """Return the remedy for a program that failed."""
    text = tail(log, 60).lower()
    if "no space left" in text:
        return "make room on the disk of the cache, or set CONFORMANCE_CACHE to a folder on another disk"
    return f"read {log}"
