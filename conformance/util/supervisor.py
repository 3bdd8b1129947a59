"""A folder for sockets, and a program in it; both end with the calling process, even if that is killed.

A supervisor process owns them. It notices the end of the caller, by SIGKILL too, when the pipe between them closes. No
signal of a terminal reaches it, so that a clean-up after ctrl-C can still use the program. It runs with ``python -I
-S`` and imports only the standard library: no psutil here, so that its start is fast.
"""

import atexit
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

SOCKET_PATH_BYTES = 107
"""Size of sockaddr_un.sun_path without its final zero (unix(7))."""

LONGEST_NAME = "/12345.sock"
"""The longest name of a socket in such a folder."""

END_SECONDS = 3
"""Deadline for the program after SIGTERM."""


class SupervisedProcess:
    """A new folder that only this user can enter, and optionally a program.

    Args:
        command: returns the program and its arguments for the folder; none for a folder without a program.

    Attributes:
        path: the folder.
    """

    def __init__(self, command: Callable[[Path], Sequence[str]] | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="conformance-", dir=_short_enough()))  # mode 0700
        self._status = self.path / "status"
        self._log = self.path / "log"
        words = command(self.path) if command else ()
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, self.path, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether folder and program still exist."""
        return self._keeper.poll() is None and not self._status.exists()

    @property
    def log(self) -> str:
        """The program's output, of both streams."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def close(self) -> None:
        """End the program and remove the folder."""
        atexit.unregister(self.close)
        if self._keeper.stdin:
            self._keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(2 * END_SECONDS)


def _short_enough() -> str:
    """Return the folder of temporary files, or /tmp if paths of sockets in it would be too long."""
    wanted = tempfile.gettempdir()
    longest = Path(wanted, "conformance-12345678" + LONGEST_NAME)
    return wanted if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES else "/tmp"  # noqa: S108  - mkdtemp makes it safe


def _keep(folder: Path, words: Sequence[str]) -> None:
    """Run the program until it or the caller ends; remove the folder at the caller's end."""
    with contextlib.ExitStack() as end:
        end.callback(shutil.rmtree, folder, ignore_errors=True)
        watched = [0]
        if words:
            with (folder / "log").open("wb") as log:
                program = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            end.callback(_end, program)
            watched.append(os.pidfd_open(program.pid))
        ready, _, _ = select.select(watched, (), ())
        if 0 not in ready:
            (folder / "status").write_text(str(program.wait()))
            select.select([0], (), ())


def _end(program: "subprocess.Popen[bytes]") -> None:
    program.terminate()
    try:
        program.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _keep(Path(sys.argv[1]), sys.argv[2:])
