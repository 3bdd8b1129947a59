"""Workers side by side: a session in a process of its own for each mode on each host.

Each worker cleans up, keeps deadlines and judges as any session does; all write records of one run. This module starts
the processes, shows their progress and output, and ends them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance.errors import HarnessError
from conformance.util import paths, progress, signals
from conformance.util.progress import Event, Progress, Standing
from conformance.workers.sessions import COMPLETED, worst

END_SECONDS = 240
"""Deadline for a worker to end: its guests shut down, its containers stop, the host's network is restored."""

POLL_SECONDS = 0.1
"""Pause between two looks at the workers' progress and state."""

NO_CACHE = ("-p", "no:cacheprovider")
"""pytest's cache keeps one session's failures: workers would overwrite each other's."""

OUTCOMES: dict[int, str] = {
    pytest.ExitCode.OK: "passed",
    pytest.ExitCode.TESTS_FAILED: "failed",
    pytest.ExitCode.INTERRUPTED: "interrupted",
    pytest.ExitCode.NO_TESTS_COLLECTED: "decided nothing",
}


@dataclass(frozen=True)
class WorkerHost:
    """The host of some workers.

    Attributes:
        name: in the records.
        address: of its engine, as DOCKER_HOST takes it.
        arguments: pytest's options for this host only.
    """

    name: str
    address: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One mode on one host, or all modes that a host cannot run: their worker only records that.

    Attributes:
        host: the host.
        modes: ids of the modes.
        exclusive: parts of the host that only one worker at a time can use.
        runs: whether the host can run the modes.
        checks: the number of selected checks.
        seconds: how long they took when they were last recorded; None if unknown.
    """

    host: WorkerHost
    modes: tuple[str, ...]
    exclusive: frozenset[str] = frozenset()
    runs: bool = True
    checks: int = 0
    seconds: float | None = None

    @property
    def title(self) -> str:
        """Return the modes in one line."""
        return ", ".join(self.modes)


@dataclass(frozen=True)
class RunSettings:
    """Settings of all workers of a run.

    Attributes:
        run: id of the run in the records.
        arguments: pytest's options.
        at_once: number of workers on one host.
        first_failure_ends: whether the first failed worker ends all.
        junit: file of JUnit's report, if one is wanted.
    """

    run: str
    arguments: tuple[str, ...]
    at_once: int
    first_failure_ends: bool = False
    junit: Path | None = None


Command = Callable[[Task, RunSettings, Path], Sequence[str]]
"""Makes a worker's command from the file for its progress."""


def startable(waiting: Sequence[Task], running: Sequence[Task], at_once: int) -> Task | None:
    """Return a task that can start now, if any: its host has a free worker, and nothing exclusive is in use."""
    for task in waiting:
        beside = [other for other in running if other.host == task.host]
        if len(beside) < at_once and not any(task.exclusive & other.exclusive for other in beside):
            return task
    return None


def command(task: Task, settings: RunSettings, file: Path) -> list[str]:
    """Return the command of a worker."""
    return [
        # -P: pytest would take a package in the current folder for a second project with the same plugin.
        *(sys.executable, "-P", "-m", "conformance.workers.worker", settings.run, ",".join(task.modes), str(file)),
        *(*paths.TESTS, *NO_CACHE, *task.host.arguments, *settings.arguments),
    ]


@dataclass
class _Worker:
    """A running worker.

    Attributes:
        kill_at: time on the monotonic clock when it is killed; None until it has to end.
        killed: whether it missed that time.
    """

    task: Task
    folder: Path
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.monotonic)
    kill_at: float | None = None
    killed: bool = False
    _read: int = 0

    @classmethod
    def start(cls, task: Task, settings: RunSettings, folder: Path, made: Command) -> "_Worker":
        folder.mkdir()
        words = [*made(task, settings, folder / "progress")]
        if settings.junit:
            words.append(f"--junit-xml={folder / 'junit.xml'}")  # the last one counts
        size = {"COLUMNS": str(shutil.get_terminal_size().columns)}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                # It ends with this process, even if that is killed (prctl(2), PR_SET_PDEATHSIG).
                ["setpriv", "--pdeathsig", "TERM", "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **size, "DOCKER_HOST": task.host.address},
                start_new_session=True,  # this process passes a terminal's ctrl-C on, once
            )
        return cls(task, folder, process)

    @property
    def status(self) -> int | None:
        """Return the exit status, or None while it runs; a worker that missed its deadline to end is killed."""
        status = self.process.poll()
        if status is None and self.kill_at is not None and time.monotonic() > self.kill_at:
            self.process.kill()
            self.killed = True
        return 128 - status if status is not None and status < 0 else status

    def end(self) -> None:
        """Send SIGTERM, which ends it as ctrl-C does; a shell's background process ignores SIGINT."""
        self.process.send_signal(signal.SIGTERM)
        self.kill_at = self.kill_at or time.monotonic() + END_SECONDS

    def new_progress(self) -> Iterator[Event]:
        """Yield the progress since the last call."""
        try:
            with (self.folder / "progress").open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):  # else it is still being written
                        self._read += len(line)
                        yield progress.read(line.decode(errors="replace").strip())
        except FileNotFoundError:
            return  # it has only just begun

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8", errors="replace")


class WorkerPool:
    """Runs the workers of a run.

    Args:
        tasks: to run.
        settings: of all workers.
        shown: shows the workers' progress.
        show: prints the whole output of each worker, as it ends.
        made: makes a worker's command.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: RunSettings,
        shown: Progress,
        show: Callable[[str], object],
        made: Command = command,
    ) -> None:
        # Tasks that can only run one after another start first.
        self._waiting = sorted(tasks, key=lambda task: not task.exclusive)
        self._settings = settings
        self._tasks = [task for task in tasks if task.runs]
        self._standings: dict[Task, Standing] = {}
        self._progress = shown
        self._show = show
        self._made = made
        self._running: list[_Worker] = []
        self._statuses: list[int] = []
        self._several_hosts = len({task.host for task in tasks}) > 1

    def run(self) -> int:
        """Run all tasks, and return the worst exit status.

        After a worker that cannot run, the other tasks of its host are dropped, and those of other hosts go on. After
        ctrl-C each running worker has time to clean up; a second ctrl-C is passed on as well.
        """
        interrupted = pending = False
        self._progress.headline(self._headline())
        with tempfile.TemporaryDirectory(prefix="conformance-workers-") as folder, self._end_after_errors():
            while self._waiting or self._running:
                try:
                    if pending:
                        pending = False
                        self._end_all()
                    self._start(Path(folder))
                    self._poll()
                    time.sleep(POLL_SECONDS)
                except KeyboardInterrupt:
                    interrupted = pending = True
            self._progress.clear()
            if self._settings.junit:
                merge_junit(sorted(Path(folder).glob("*/junit.xml")), self._settings.junit)
                self._show(f"JUnit report of all sessions: {self._settings.junit}\n")  # each has named its own
        return int(pytest.ExitCode.INTERRUPTED) if interrupted else worst(self._statuses)

    @contextlib.contextmanager
    def _end_after_errors(self) -> Iterator[None]:
        """End all workers after an error of this process, and wait for them."""
        try:
            yield
        except BaseException:
            self._end_all()
            for worker in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(END_SECONDS)
            raise

    def _start(self, folder: Path) -> None:
        while task := startable(self._waiting, [worker.task for worker in self._running], self._settings.at_once):
            with signals.deferred():  # an interrupt between the next lines would lose a worker
                self._waiting.remove(task)
                number = len(self._statuses) + len(self._running)
                self._running.append(_Worker.start(task, self._settings, folder / f"{number:04}", self._made))

    def _poll(self) -> None:
        for worker in list(self._running):
            ended = worker.status is not None  # before its last progress is read
            for event in worker.new_progress():
                self._report(worker, event)
            if ended:
                with signals.deferred():  # an interrupt would lose its output
                    self._finish(worker)

    def _report(self, worker: _Worker, event: Event) -> None:
        """Show some progress of a worker, in one line for all of them."""
        task = worker.task
        if event.standing:
            self._standings[task] = event.standing
            self._progress.headline(self._headline())
        elif event.line:
            self._progress.line(f"{task.host.name}: {event.line}" if self._several_hosts else event.line)
        elif task.runs:
            self._progress(f"{self._title(task)}: {event.step.removeprefix(f'{task.title}: ')}")

    def _headline(self) -> str:
        """Return how far all workers are."""
        present = [worker.task for worker in self._running if worker.task.runs]
        ended = len(self._tasks) - len(present) - len([task for task in self._waiting if task.runs])
        at = [
            f"{self._title(task)} {standing.done}/{standing.checks}"
            for task in present
            if (standing := self._standings.get(task))
        ]
        parts = (f"{ended}/{len(self._tasks)} modes done", ", ".join(at), progress.left(self._left()))
        return " · ".join(part for part in parts if part)

    def _left(self) -> float | None:
        """Return the estimated seconds until the last worker ends; None if it is unknown of a mode."""
        waiting: dict[WorkerHost, list[float | None]] = {}
        for task in (*(worker.task for worker in self._running), *self._waiting):
            if task.runs:
                standing = self._standings.get(task)
                waiting.setdefault(task.host, []).append(_left(standing) if standing else task.seconds)
        longest = 0.0
        for parts in waiting.values():
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            longest = max(longest, sum(known) / self._settings.at_once, *known)
        return longest or None

    @property
    def reached(self) -> tuple[int, int]:
        """Return the number of checks that have ended, and of those that were to run."""
        checks = (self._standings[task].checks if task in self._standings else task.checks for task in self._tasks)
        return sum(one.done for one in self._standings.values()), sum(checks)

    def _finish(self, worker: _Worker) -> None:
        status = worker.status or 0
        self._running.remove(worker)
        if worker.kill_at is None:  # the status of one that was ended from here is no result
            self._statuses.append(status)
        self._progress.clear()
        self._show_end(worker, status)
        if status == pytest.ExitCode.TESTS_FAILED and self._settings.first_failure_ends:
            self._end_all()
        elif status not in COMPLETED:
            self._waiting = [task for task in self._waiting if task.host != worker.task.host]

    def _show_end(self, worker: _Worker, status: int) -> None:
        """Show a worker's output, and how it ended where it has not reported its last check."""
        standing = self._standings.get(worker.task)
        complete = standing is not None and standing.done == standing.checks
        if worker.killed:
            outcome = f"killed {END_SECONDS:.0f} s after the signal to end; the next run removes its leftovers;"
        elif worker.kill_at:  # the status depends on the moment of the signal
            outcome = OUTCOMES[pytest.ExitCode.INTERRUPTED]
        else:
            outcome = OUTCOMES.get(status, f"could not run (exit status {status})")
        lines = [worker.output.strip()]
        if worker.killed or (worker.task.runs and not complete) or (status not in COMPLETED and not worker.kill_at):
            lines.append(f"{self._title(worker.task)}: {outcome} after {time.monotonic() - worker.began:.0f} s")
        if text := "\n".join(line for line in lines if line):
            self._show(f"{text}\n")

    def _end_all(self) -> None:
        self._waiting.clear()
        for worker in self._running:
            worker.end()

    def _title(self, task: Task) -> str:
        return f"{task.title} on {task.host.name}" if self._several_hosts else task.title


def _left(standing: Standing) -> float | None:
    """Return the seconds that a worker still needs; None if it does not know them."""
    return 0.0 if standing.done == standing.checks else standing.left


def merge_junit(files: Sequence[Path], into: Path) -> None:
    """Put the suites of several reports into one.

    Raises:
        HarnessError: it cannot be written.
    """
    merged = ElementTree.Element("testsuites", name="pytest tests")
    for file in files:
        merged.extend(ElementTree.parse(file).getroot())  # noqa: S314  - our own sessions wrote it
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(merged).write(into, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise HarnessError(f"cannot write {into}: {error.strerror}", "name another file with --junit-xml") from error
