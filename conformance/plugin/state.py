"""The keys of pytest's stash, the state of a session, and exit statuses."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

import pytest

from conformance.container.container import Container
from conformance.model.record import Record
from conformance.plugin.options import Options
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util.progress import Progress, ProgressFile

INSTALL = "install"
"""The marker of installations, which are slow: they run only if ``-m`` names it or the feature's own marker."""

ESSENTIAL = "essential"
"""The marker of the checks that stand for their feature where time is short."""

EXIT_NOTHING_DECIDED = 5
"""As pytest's own for a session without tests: no check was decided."""

EXIT_CANNOT_RUN = 6
"""The machine or its engine cannot run anything; no check ran."""


@dataclass(frozen=True)
class WorkerContext:
    """The part of a worker in a run that another process leads; that process checks ``--require``, too.

    Attributes:
        run: id of the whole run in the records.
        modes: the worker's own of the chosen modes.
        progress: receives the progress, a line each.
    """

    run: str
    modes: tuple[str, ...]
    progress: TextIO


class Live(Protocol):
    """The live progress of the session's checks (:mod:`conformance.plugin.live`)."""

    @property
    def reached(self) -> tuple[int, int]:
        """Return the number of checks that have ended, and of those that were to run."""
        ...

    @property
    def selected(self) -> frozenset[tuple[str, str]]:
        """Return the cells that were to run, as feature and mode."""
        ...

    @property
    def seconds(self) -> float:
        """Return the seconds since all was prepared."""
        ...

    def judged(self, record: Record) -> None:
        """Show a verdict that needs attention."""
        ...


@dataclass
class SessionState:
    """The state of one session.

    Attributes:
        config: pytest's.
        worker: the part of this session in a run that another process leads.
        shared_run: a run that the caller has prepared and closes.
        folders: hold suites.
        selected: whether the selection of tests has succeeded; it has not if ``-m`` names an unknown marker.
        run: the run, once it is prepared.
        container: the newest container, whether it came up or not.
        untestable: checks that this host cannot run, and that have no record yet.
        announced: reasons of such checks that the user has read.
        live: shows how far the session is, from the first check on.
    """

    config: pytest.Config
    worker: WorkerContext | None = None
    shared_run: Run | None = None
    folders: set[Path] = field(default_factory=set)
    selected: bool = False
    run: Run | None = None
    container: Container | None = None
    untestable: list[Check] = field(default_factory=list)
    announced: set[str] = field(default_factory=set)
    live: Live | None = None

    @functools.cached_property
    def progress(self) -> Progress:
        """Return the progress; it is written past the capturing of a test's output, or to the leading process."""
        if self.worker:
            return ProgressFile(self.worker.progress)
        quiet = self.config.getoption("verbose") < 0
        plugins = self.config.pluginmanager
        reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

        @contextlib.contextmanager
        def uncaptured(*, begins: bool) -> Iterator[None]:
            with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
                if reporter and begins:
                    reporter.ensure_newline()
                yield

        stream = reporter._tw._file if reporter else sys.stderr
        return Progress(stream, quiet=quiet, around=uncaptured)

    @property
    def prepared_run(self) -> Run:
        """Return the run, for code that runs only within one."""
        if self.run is None:
            raise RuntimeError("no run is prepared before the first test")
        return self.run


OPTIONS = pytest.StashKey[Options]()
SESSION = pytest.StashKey[SessionState]()
CHECK = pytest.StashKey[Check]()
"""Of a test."""
LEADER = pytest.StashKey[WorkerContext | Run]()
"""The caller of a session sets it before pytest's configuration: a worker's part, or a run that is shared."""
