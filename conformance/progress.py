"""Saying what is being waited for: one line that renews itself on a terminal, plain lines elsewhere."""

import sys
from typing import TextIO

CLEAR = "\r\x1b[2K"
WIDTH = 110


class Progress:
    """Tells a reader what a long step is waiting for.

    Args:
        stream: where to; a terminal gets a line that the next one replaces, anything else gets every line.
        quiet: say nothing at all.
    """

    def __init__(self, stream: TextIO = sys.stderr, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._terminal = stream.isatty()
        self._shown = False

    def __call__(self, text: str) -> None:
        """Show a text, in place of the last one where that is possible."""
        if self._quiet:
            return
        line = " ".join(text.split())
        line = line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
        if self._terminal:
            self._stream.write(f"{CLEAR}… {line}")
        else:
            self._stream.write(f"… {line}\n")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take a renewed line off the terminal, before somebody else writes there."""
        if self._terminal and self._shown:
            self._stream.write(CLEAR)
            self._stream.flush()
        self._shown = False
