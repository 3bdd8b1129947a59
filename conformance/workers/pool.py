"""One run in parts: each mode on each host is asked by a session in a process of its own, several side by side.

A part's clean-up, deadlines and verdicts are those of any session; all parts write to one run's records. What is led
here is only who starts when, and what is told of it.
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
from conformance.workers.sessions import ASKED, worst

END_SECONDS = 240
"""For a part that is to end: its guests shut down, its containers stop, the host's network is given back."""

LOOK_SECONDS = 0.1
"""Between two looks at what the parts say and whether they have ended."""

NO_CACHE = ("-p", "no:cacheprovider")
"""What failed last is one session's knowledge: parts would overwrite each other's."""

MEANING: dict[int, str] = {
    pytest.ExitCode.OK: "nothing is wrong",
    pytest.ExitCode.TESTS_FAILED: "something is wrong",
    pytest.ExitCode.INTERRUPTED: "interrupted",
    pytest.ExitCode.NO_TESTS_COLLECTED: "nothing was decided",
}


@dataclass(frozen=True)
class Host:
    """Where parts run.

    Attributes:
        name: as records call it.
        address: of its engine, as DOCKER_HOST takes it.
        words: pytest's options that are this host's.
    """

    name: str
    address: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One mode on one host.

    Attributes:
        host: the host.
        mode: the mode's id.
        alone: what of the host it has to have for itself.
    """

    host: Host
    mode: str
    alone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shared:
    """What all parts of a run have in common.

    Attributes:
        run: what records call the run.
        words: pytest's options.
        at_once: so many parts run side by side on one host.
        failing_ends: the first part in which something is wrong ends all.
        junit: the file for JUnit's report, if one is wanted.
    """

    run: str
    words: tuple[str, ...]
    at_once: int
    failing_ends: bool = False
    junit: Path | None = None


Command = Callable[[Task, Shared, Path], Sequence[str]]
"""Makes a part's command from the file for its progress."""


def startable(waiting: Sequence[Task], running: Sequence[Task], at_once: int) -> Task | None:
    """Return the part that may start now, if any: a host takes so many at once, if nobody is in another's way."""
    for part in waiting:
        beside = [one for one in running if one.host == part.host]
        if len(beside) < at_once and not any(part.alone & one.alone for one in beside):
            return part
    return None


def command(part: Task, shared: Shared, progress: Path) -> list[str]:
    """Return the words of a part's session."""
    return [
        # Not what lies in the current folder: pytest would take it for a second project with the same plugin.
        *(sys.executable, "-P", "-m", "conformance.workers.worker", shared.run, part.mode, str(progress), *paths.TESTS),
        *(*NO_CACHE, *part.host.words, *shared.words),
    ]


@dataclass
class _Session:
    """A part's session."""

    part: Task
    folder: Path
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.monotonic)
    given_up: float | None = None
    """When it is killed, on the monotonic clock; none while nobody wants its end."""
    _read: int = 0

    @classmethod
    def start(cls, part: Task, shared: Shared, folder: Path, made: Command) -> "_Session":
        folder.mkdir()
        words = [*made(part, shared, folder / "progress")]
        if shared.junit:
            words.append(f"--junit-xml={folder / 'junit.xml'}")  # the last one counts
        size = {"COLUMNS": str(shutil.get_terminal_size().columns)}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                # It must not outlive who leads it, killed or not (prctl(2), PR_SET_PDEATHSIG).
                ["setpriv", "--pdeathsig", "TERM", "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **size, "DOCKER_HOST": part.host.address},
                start_new_session=True,  # a terminal's ctrl-C reaches it through this process, once
            )
        return cls(part, folder, process)

    @property
    def status(self) -> int | None:
        """Return the exit status; none while it runs. One that was to end and does not is killed."""
        status = self.process.poll()
        if status is None and self.given_up is not None and time.monotonic() > self.given_up:
            self.process.kill()
        return 128 - status if status is not None and status < 0 else status

    def end(self) -> None:
        """Ask it to end, as ctrl-C would: by SIGTERM, which is heard in the background of a shell too."""
        self.process.send_signal(signal.SIGTERM)
        self.given_up = self.given_up or time.monotonic() + END_SECONDS

    def news(self) -> Iterator[str]:
        """Return what it has said since it was last asked of what it is waiting for."""
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
    """Asks the parts of a run.

    Args:
        parts: what is asked.
        shared: what they have in common.
        progress: told what they are waiting for.
        show: told what each of them wrote, whole, as it ends.
        made: makes a part's command.
    """

    def __init__(
        self,
        parts: Sequence[Task],
        shared: Shared,
        progress: Progress,
        show: Callable[[str], object],
        made: Command = command,
    ) -> None:
        # First those that can only go one after another.
        self._waiting = sorted(parts, key=lambda part: not part.alone)
        self._shared = shared
        self._progress = progress
        self._show = show
        self._made = made
        self._running: list[_Session] = []
        self._statuses: list[int] = []
        self._several = len({part.host for part in parts}) > 1

    def ask(self) -> int:
        """Ask all of them, and return the worst exit status.

        A host that cannot be asked keeps none but its own parts from being asked. After ctrl-C each part that runs has
        its time to clean up; a second ctrl-C is passed on as well.
        """
        interrupted = heard = False
        with tempfile.TemporaryDirectory(prefix="conformance-parts-") as folder, self._none_left():
            while self._waiting or self._running:
                try:
                    if heard:
                        heard = False
                        self._end_all()
                    self._start(Path(folder))
                    self._look()
                    time.sleep(LOOK_SECONDS)
                except KeyboardInterrupt:
                    interrupted = heard = True
            self._progress.clear()
            if self._shared.junit:
                merge_junit(sorted(Path(folder).glob("*/junit.xml")), self._shared.junit)
                self._show(f"all sessions' JUnit reports: {self._shared.junit}\n")  # each has told of its own
        return int(pytest.ExitCode.INTERRUPTED) if interrupted else worst(self._statuses)

    @contextlib.contextmanager
    def _none_left(self) -> Iterator[None]:
        """Let no part go on where leading them has failed."""
        try:
            yield
        except BaseException:
            self._end_all()
            for one in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(END_SECONDS)
            raise

    def _start(self, folder: Path) -> None:
        while part := startable(self._waiting, [one.part for one in self._running], self._shared.at_once):
            with signals.deferred():  # what has started is known
                self._waiting.remove(part)
                number = len(self._statuses) + len(self._running)
                self._running.append(_Session.start(part, self._shared, folder / f"{number:04}", self._made))

    def _look(self) -> None:
        for session in list(self._running):
            ended = session.status is not None  # before the last look at what it said
            for line in session.news():
                self._progress(f"{self._title(session.part)}: {line.removeprefix(f'{session.part.mode}: ')}")
            if ended:
                with signals.deferred():  # what has ended is shown
                    self._ended(session)

    def _ended(self, session: _Session) -> None:
        status = session.status or 0
        self._running.remove(session)
        if session.given_up is None:  # the status of one that was ended from here says nothing of what it asked
            self._statuses.append(status)
        self._progress.clear()
        how = MEANING.get(status, f"it could not be asked (exit status {status})")
        seconds = time.monotonic() - session.began
        self._show(f"{session.output}{self._title(session.part)}: {how}, after {seconds:.0f} s\n")
        if status == pytest.ExitCode.TESTS_FAILED and self._shared.failing_ends:
            self._end_all()
        elif status not in ASKED:
            self._waiting = [one for one in self._waiting if one.host != session.part.host]

    def _end_all(self) -> None:
        self._waiting.clear()
        for one in self._running:
            one.end()

    def _title(self, part: Task) -> str:
        return f"{part.mode} on {part.host.name}" if self._several else part.mode


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
        raise HarnessError(f"cannot write {into}: {error.strerror}", "give another file with --junit-xml") from error
