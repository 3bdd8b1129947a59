"""The log of a run: one file in the artefacts folder with every record of the loggers below ``conformance``.

A process collects records in memory from :func:`begin` on and writes them from :func:`write_to` on, once the run has a
name. Before :func:`begin`, as in other projects' pytest sessions, the loggers have no output. A log that cannot be
written never fails a run.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from conformance.util import paths

ROOT = logging.getLogger("conformance")
ROOT.addHandler(logging.NullHandler())  # without any handler, Python prints warnings to stderr

FILE = "conformance.log"

EARLY_LINES = 10_000
"""Number of lines that are kept until the run has a name; the oldest ones are dropped first."""


class RunLog(logging.Handler):
    """Collects lines in memory until it has a file, then appends each line to the file at once.

    Attributes:
        path: the file; none before :meth:`write_to`, or if the file cannot be opened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self._early: deque[str] = deque(maxlen=EARLY_LINES)
        self._stream: TextIO | None = None
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s (%(threadName)s): %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    @property
    def empty(self) -> bool:
        """Whether nothing has been logged yet."""
        return self.path is None and not self._early

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until there is a file; errors are dropped."""
        with contextlib.suppress(Exception):
            line = self.format(record)
            if self.path is None:
                self._early.append(line)
            elif self._stream:
                self._write([line])

    def write_to(self, path: Path) -> None:
        """Write the collected lines and all later ones into a file; keep collecting if it cannot be opened."""
        self.acquire()
        try:
            self._close_file()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8", errors="backslashreplace")
            self.path = path
            self._write(self._early)
            self._early.clear()
        except OSError:
            pass
        finally:
            self.release()

    def close(self) -> None:
        """Close the file."""
        self._close_file()
        super().close()

    def _write(self, lines: "list[str] | deque[str]") -> None:
        """Write lines; after the first failure, such as a full disk, write no more."""
        if not self._stream:
            return
        try:
            self._stream.writelines(f"{line}\n" for line in lines)
            self._stream.flush()
        except OSError:
            self._close_file()

    def _close_file(self) -> None:
        stream, self._stream = self._stream, None
        if stream:
            with contextlib.suppress(OSError):  # the flush of a full disk fails once more
                stream.close()


_log: RunLog | None = None
_shown: logging.Handler | None = None


def begin() -> Callable[[], None]:
    """Begin to collect this process's records; return the function that ends it.

    Where the process collects already, that function does nothing: the outermost call owns the log.
    """
    global _log
    if _log:
        return lambda: None
    _log = RunLog()
    before = ROOT.level, ROOT.propagate
    ROOT.addHandler(_log)
    ROOT.setLevel(logging.DEBUG)
    ROOT.propagate = False  # pytest would add all of it to the output of each failed test

    def end() -> None:
        global _log
        show(None)
        if _log:
            ROOT.removeHandler(_log)
            _log.close()
            _log = None
        ROOT.setLevel(before[0])
        ROOT.propagate = before[1]

    return end


def write_to(run: str, worker: str = "") -> None:
    """Write this process's log into the artefacts of a run; without effect before :func:`begin`.

    Args:
        run: id of the run.
        worker: id of this process's part in the run, which has a file of its own; empty for the whole run's file.
    """
    if _log:
        _log.write_to(paths.run_folder(run) / (f"worker-{worker}.log" if worker else FILE))


def show(handler: logging.Handler | None) -> Callable[[], None]:
    """Show all records on a handler as well, in place of the one before; return the function that puts that back."""
    global _shown
    before = _shown
    if before:
        ROOT.removeHandler(before)
    if handler:
        ROOT.addHandler(handler)
    _shown = handler

    def put_back() -> None:
        show(before)

    return put_back


def shown() -> bool:
    """Return whether a handler shows records."""
    return _shown is not None


def footer() -> str:
    """Return the line of an error message that names the log; write the log first if no run had begun.

    Empty where nothing was logged or the log cannot be written.
    """
    if not _log or _log.empty:
        return ""
    if _log.path is None:
        write_to(f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}")
    return f"\n  log: {_log.path}" if _log.path else ""
