"""A folder for sockets, and a program that works in it: both end with the process that wanted them, however that ends.

A second process keeps them. It notices the first one's end, by SIGKILL too, when the pipe between them closes; no
signal of a terminal reaches it, so that what it keeps serves a clean-up after ctrl-C.
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
"""What fits into sockaddr_un.sun_path beside its final zero (unix(7))."""

LONGEST_NAME = "/12345.sock"
"""No socket in such a folder has a longer name."""

END_SECONDS = 3
"""For the program to end after SIGTERM."""


class SupervisedProcess:
    """A fresh folder that only this user can enter, and perhaps a program.

    Args:
        command: makes the program's words from the folder; none where only the folder is wanted.

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
        """Say whether folder and program are still there."""
        return self._keeper.poll() is None and not self._status.exists()

    @property
    def log(self) -> str:
        """Return what the program has written, to either of its streams."""
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
    """Return where the system wants temporary files, if a socket's path in a folder there is not too long."""
    wanted = tempfile.gettempdir()
    longest = Path(wanted, "conformance-12345678" + LONGEST_NAME)
    return wanted if len(os.fsencode(longest)) <= SOCKET_PATH_BYTES else "/tmp"  # noqa: S108  - mkdtemp makes it safe


def _keep(folder: Path, words: Sequence[str]) -> None:
    """Run the program until it ends or the first process does; then remove the folder, once that one has ended."""
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
