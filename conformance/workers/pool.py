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
from conformance.util import paths, signals
from conformance.util.progress import Progress
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
    """One mode on one host.

    Attributes:
        host: the host.
        mode: the mode's id.
        exclusive: parts of the host that only one worker at a time can use.
    """

    host: WorkerHost
    mode: str
    exclusive: frozenset[str] = frozenset()


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


def command(task: Task, settings: RunSettings, progress: Path) -> list[str]:
    """Return the command of a worker."""
    return [
        # -P: pytest would take a package in the current folder for a second project with the same plugin.
        *(sys.executable, "-P", "-m", "conformance.workers.worker", settings.run, task.mode, str(progress)),
        *(*paths.TESTS, *NO_CACHE, *task.host.arguments, *settings.arguments),
    ]


@dataclass
class _Worker:
    """A running worker.

    Attributes:
        kill_at: time on the monotonic clock when it is killed; None until it has to end.
    """

    task: Task
    folder: Path
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.monotonic)
    kill_at: float | None = None
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
        return 128 - status if status is not None and status < 0 else status

    def end(self) -> None:
        """Send SIGTERM, which ends it as ctrl-C does; a shell's background process ignores SIGINT."""
        self.process.send_signal(signal.SIGTERM)
        self.kill_at = self.kill_at or time.monotonic() + END_SECONDS

    def new_progress(self) -> Iterator[str]:
        """Yield the lines of progress since the last call."""
        try:
            with (self.folder / "progress").open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):  # else it is still being written
                        self._read += len(line)
                        yield line.decode(errors="replace").removeprefix("…").strip()
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
        progress: shows the workers' progress.
        show: prints the whole output of each worker, as it ends.
        made: makes a worker's command.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: RunSettings,
        progress: Progress,
        show: Callable[[str], object],
        made: Command = command,
    ) -> None:
        # Tasks that can only run one after another start first.
        self._waiting = sorted(tasks, key=lambda task: not task.exclusive)
        self._settings = settings
        self._progress = progress
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
            for line in worker.new_progress():
                self._progress(f"{self._title(worker.task)}: {line.removeprefix(f'{worker.task.mode}: ')}")
            if ended:
                with signals.deferred():  # an interrupt would lose its output
                    self._finish(worker)

    def _finish(self, worker: _Worker) -> None:
        status = worker.status or 0
        self._running.remove(worker)
        if worker.kill_at is None:  # the status of one that was ended from here is no result
            self._statuses.append(status)
        self._progress.clear()
        outcome = OUTCOMES.get(status, f"could not run (exit status {status})")
        seconds = time.monotonic() - worker.began
        self._show(f"{worker.output}{self._title(worker.task)}: {outcome} after {seconds:.0f} s\n")
        if status == pytest.ExitCode.TESTS_FAILED and self._settings.first_failure_ends:
            self._end_all()
        elif status not in COMPLETED:
            self._waiting = [task for task in self._waiting if task.host != worker.task.host]

    def _end_all(self) -> None:
        self._waiting.clear()
        for worker in self._running:
            worker.end()

    def _title(self, task: Task) -> str:
        return f"{task.mode} on {task.host.name}" if self._several_hosts else task.mode


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
