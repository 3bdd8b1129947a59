"""Saying what is being waited for: one line that renews itself on a terminal, plain lines elsewhere."""

import contextlib
import sys
from typing import Protocol, TextIO

CLEAR = "\r\x1b[2K"
WIDTH = 110


class Around(Protocol):
    """Prepares the stream for a write, and puts it back."""

    def __call__(self, *, begins: bool) -> contextlib.AbstractContextManager[None]:
        """Return what to write within; ``begins`` says that a new line is begun."""
        ...


def _nothing(*, begins: bool) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


class Progress:
    """Tells a reader what a long step is waiting for.

    Args:
        stream: where to; a terminal gets a line that the next one replaces, anything else gets every line.
        quiet: say nothing at all.
        around: what to write within, where somebody else uses the stream as well.
    """

    def __init__(self, stream: TextIO = sys.stderr, *, quiet: bool = False, around: Around = _nothing) -> None:
        self._stream = stream
        self._around = around
        self._quiet = quiet
        self._terminal = stream.isatty()
        self._shown = False

    def __call__(self, text: str) -> None:
        """Show a text, in place of the last one where that is possible."""
        if self._quiet:
            return
        line = " ".join(text.split())
        line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
        with self._around(begins=not self._shown):
            self._stream.write(f"{CLEAR}… {line}" if self._terminal else f"… {line}\n")
            self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take a renewed line off the terminal, before somebody else writes there."""
        if self._terminal and self._shown:
            with self._around(begins=False):
                self._stream.write(CLEAR)
                self._stream.flush()
        self._shown = False
