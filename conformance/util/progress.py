"""Progress messages: one line that renews itself on a terminal, plain lines elsewhere; the log gets them too."""

import contextlib
import logging
import sys
from typing import Protocol, TextIO

STEPS = logging.getLogger(__name__)

CLEAR = "\r\x1b[2K"
WIDTH = 110


class Around(Protocol):
    """Prepares the stream for a write, and puts it back."""

    def __call__(self, *, begins: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a write; ``begins`` means that the write starts a new line."""
        ...


def _nothing(*, begins: bool) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


class Progress(logging.Handler):
    """Shows the current step of a long task, and in verbose sessions all log records.

    Call it with the text of a step. As a handler of the ``conformance`` logger (:func:`conformance.util.logs.show`) it
    shows every other record as a line that stays.

    Args:
        stream: the output; on a terminal each step replaces the last one, anything else gets every step.
        quiet: show nothing; the log still gets the steps.
        around: the context of each write, where the stream has another user too.
    """

    def __init__(self, stream: TextIO = sys.stderr, *, quiet: bool = False, around: Around = _nothing) -> None:
        super().__init__()
        self._stream = stream
        self._around = around
        self._quiet = quiet
        self._terminal = stream.isatty()
        self._shown = False

    def __call__(self, text: str) -> None:
        """Show a step, in place of the last one where that is possible, and log it."""
        STEPS.info("%s", text)
        if self._quiet:
            return
        line = " ".join(text.split())
        line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
        with self.lock or contextlib.nullcontext(), self._around(begins=not self._shown):
            self._stream.write(f"{CLEAR}… {line}" if self._terminal else f"… {line}\n")
            self._stream.flush()
            self._shown = True

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record of the log as a line that stays; steps are shown already."""
        if record.name == STEPS.name or self._quiet:
            return
        try:
            line = f"  {record.levelname.lower()} {record.name}: {' '.join(record.getMessage().split())}\n"
            with self._around(begins=not self._shown):
                self._stream.write(CLEAR + line if self._terminal else line)
                self._stream.flush()
            self._shown = False
        except Exception:
            self.handleError(record)

    def clear(self) -> None:
        """Remove a renewed line from the terminal before another writer uses it."""
        if self._terminal and self._shown:
            with self._around(begins=False):
                self._stream.write(CLEAR)
                self._stream.flush()
        self._shown = False
