"""Running a program that takes minutes: its output in a file, its last lines in the error."""

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
"""For a program that is ended to remove its temporary files."""

TIED = (
    *("setpriv", "--pdeathsig", "TERM", "--"),
    *("sh", "-c", 'trap "trap : TERM; kill 0; wait" TERM; "$@" & wait "$!"', "sh"),
)
"""A program and all that it starts end as well when this process is killed (prctl(2), PR_SET_PDEATHSIG).

Only the shell is told, and tells the whole group: mmdebstrap waits for the others to have heard it too.
"""


NAMESPACE = (
    *("unshare", "--user", "--map-root-user", "--map-auto"),
    *("--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)
"""Where this user is root of users and mounts of its own (user_namespaces(7)); its files stay its files."""


def as_root(command: Sequence[str]) -> list[str]:
    """Return a command's words that make files of every owner, by whichever user they are run."""
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
        command: its words.
        log: gets everything that it says, after what is there already.
        seconds: deadline.
        folder: where it runs.
        environment: variables beside the present ones.

    Raises:
        LabError: it is not installed, failed, or did not end in time.
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
    with contextlib.suppress(ProcessLookupError):  # nobody is left of the group
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
    """Remove folders, such as what was being made when its process was killed; the caller holds the making's lock."""
    for left in folder.glob(pattern):
        shutil.rmtree(left, ignore_errors=True)


def tail(log: Path, lines: int = 12) -> str:
    """Return the end of a file as an indented block, without what a terminal would obey."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "    (nothing)"
    shown = ["".join(char for char in line if char.isprintable()) for line in text.replace("\r", "\n").splitlines()]
    return "\n".join(f"    {line}" for line in [line for line in shown if line.strip()][-lines:]) or "    (nothing)"


def remedy(log: Path) -> str:
    """Say what to do after a program failed."""
    text = tail(log, 60).lower()
    if "no space left" in text:
        return "make room where the cache lies, or set CONFORMANCE_CACHE to a folder on another disk"
    return f"read {log}"
