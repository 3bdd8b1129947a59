"""Progress messages: one line that renews itself on a terminal, plain lines elsewhere; the log gets them too."""

import contextlib
import dataclasses
import json
import logging
import shutil
import sys
import time
from typing import Protocol, TextIO

STEPS = logging.getLogger(__name__)

CLEAR = "\r\x1b[2K"

LOG_WIDTH = 110
"""The longest line about a step where there is no terminal."""

LOG_SECONDS = 30.0
"""Pause between two lines about the same run where lines cannot be renewed."""


class Around(Protocol):
    """Prepares the stream for a write, and puts it back."""

    def __call__(self, *, begins: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a write; ``begins`` means that the write starts a new line."""
        ...


def _nothing(*, begins: bool) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


@dataclasses.dataclass(frozen=True)
class Standing:
    """The position of a run of checks; its text is the first part of the renewed line.

    Attributes:
        mode: the present mode's id.
        number: of the present mode, from 1.
        modes: the number of modes that run.
        done: checks of the present mode that have ended.
        checks: checks of the present mode that run.
        left: estimated seconds until the last check of all modes ends; None if nothing is known.
    """

    mode: str
    number: int
    modes: int
    done: int
    checks: int
    left: float | None = None

    def __str__(self) -> str:
        parts = (f"mode {self.number}/{self.modes} {self.mode}", f"{self.done}/{self.checks} checks", left(self.left))
        return " · ".join(part for part in parts if part)


def left(seconds: float | None) -> str:
    """Return the time left in words; empty if it is unknown."""
    return "" if seconds is None else f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a duration in words, with two units at most: ``45 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class Progress(logging.Handler):
    """Shows the current step of a long task, and in verbose sessions all log records.

    Call it with the text of a step. As a handler of the ``conformance`` logger (:func:`conformance.util.logs.show`) it
    shows every other record as a line that stays.

    From the first :meth:`headline` on, the line begins with it. Where lines cannot be renewed, steps are then left to
    the log, and the headline is repeated twice a minute.

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
        self._headline = ""
        self._mode = ""
        self._next = 0.0

    def __call__(self, text: str) -> None:
        """Show a step, in place of the last one where that is possible, and log it."""
        STEPS.info("%s", text)
        self._show(text)

    def headline(self, standing: Standing | str) -> None:
        """Show the position of the whole task, before all steps from now on; an empty one ends that."""
        self._headline = str(standing)
        self._mode = standing.mode if isinstance(standing, Standing) else ""
        if isinstance(standing, Standing) and not standing.done:
            self._next = 0.0  # the start of a mode is a line in any case
        if self._headline:
            self._show("")

    def line(self, text: str) -> None:
        """Show a line that stays, and log it."""
        STEPS.info("%s", text)
        if not self._quiet:
            self._write_line(text)

    def _show(self, step: str) -> None:
        if self._quiet:
            return
        if self._headline and not self._terminal:
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + LOG_SECONDS
        step = step.removeprefix(f"{self._mode}: ")  # the headline has it
        text = " ".join(" · ".join(part for part in (self._headline, step) if part).split())
        line = text if self._headline else f"… {text}"
        width = shutil.get_terminal_size().columns - 1 if self._terminal else LOG_WIDTH
        line = line if len(line) <= width else line[: width - 1] + "…"
        with self.lock or contextlib.nullcontext(), self._around(begins=not self._shown):
            self._stream.write(f"{CLEAR}{line}" if self._terminal else f"{line}\n")
            self._stream.flush()
            self._shown = self._terminal

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record of the log as a line that stays; steps are shown already."""
        if record.name == STEPS.name or self._quiet:
            return
        try:
            self._write_line(f"  {record.levelname.lower()} {record.name}: {' '.join(record.getMessage().split())}")
        except Exception:
            self.handleError(record)

    def _write_line(self, line: str) -> None:
        with self.lock or contextlib.nullcontext(), self._around(begins=not self._shown):
            self._stream.write(f"{CLEAR}{line}\n" if self._terminal else f"{line}\n")
            self._stream.flush()
        self._shown = False

    def clear(self) -> None:
        """Remove a renewed line from the terminal before another writer uses it."""
        if self._terminal and self._shown:
            with self._around(begins=False):
                self._stream.write(CLEAR)
                self._stream.flush()
        self._shown = False


class ProgressFile(Progress):
    """Progress for another process: a line of the file is a step, or JSON for anything else (:func:`read`)."""

    def headline(self, standing: Standing | str) -> None:
        """Write the position."""
        if isinstance(standing, Standing):
            self._write(json.dumps({"standing": dataclasses.asdict(standing)}))

    def line(self, text: str) -> None:
        """Write a line that stays."""
        self._write(json.dumps({"line": text}))

    def _show(self, step: str) -> None:
        self._write(f"… {' '.join(step.split())}")

    def _write(self, line: str) -> None:
        if not self._quiet:
            with self.lock or contextlib.nullcontext():
                self._stream.write(f"{line}\n")
                self._stream.flush()


@dataclasses.dataclass(frozen=True)
class Event:
    """One line of a :class:`ProgressFile`; one attribute has a value.

    Attributes:
        step: the text of a step.
        line: a line that stays.
        standing: the position.
    """

    step: str = ""
    line: str = ""
    standing: Standing | None = None


def read(line: str) -> Event:
    """Read a line of a :class:`ProgressFile`."""
    if not line.startswith("{"):
        return Event(step=line.removeprefix("…").strip())
    found = json.loads(line)
    return Event(standing=Standing(**found["standing"])) if "standing" in found else Event(line=found["line"])
