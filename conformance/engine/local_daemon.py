"""A private Docker engine for machines where none answers: own data, own socket, no leftovers.

Concurrent runs share it: each holds a shared lock while it works, and the last one stops the engine. A killed run
leaves the engine to the next run, which uses and stops it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from conformance.engine import residue
from conformance.engine.client import connect
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.docker_context import address, certificates
from conformance.engine.engine_processes import kill, other_engines, processes, with_descendants
from conformance.errors import EngineError, HarnessError
from conformance.util import paths, signals
from conformance.util.supervisor import SOCKET_PATH_BYTES
from conformance.util.wait import DeadlineExpired, wait_for

Progress = Callable[[str], None]

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOCK_SECONDS = 180.0
"""Longer than another run can take to start or to stop the engine."""

_PROGRAMS = ("dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "docker-proxy")

_REMEDIES = (
    ("cgroup", "mount the control groups: sudo apt-get install cgroupfs-mount, or start systemd"),
    (
        "no space left",
        "free space on the disk of the engine's folder, or set CONFORMANCE_CACHE to a folder on another disk",
    ),
    ("iptables", "dockerd needs iptables and a kernel with its modules: sudo apt-get install iptables"),
    (
        "operation not permitted",
        "root lacks privileges here, as in a container: start an engine outside and set DOCKER_HOST",
    ),
    ("permission denied", "root lacks privileges here, as in a container: start an engine outside and set DOCKER_HOST"),
    ("overlay", "set CONFORMANCE_CACHE to a folder on a file system that overlay2 supports, such as ext4"),
)


@contextlib.contextmanager
def engine(progress: Progress) -> Iterator[str]:
    """Yield the address of an engine that answers: the user's, else a private one for as long as this lasts.

    SIGTERM and SIGHUP, as of a terminal that is closed, end the block as SIGINT does: by KeyboardInterrupt.

    Raises:
        EngineError: the user's engine refuses or does not answer, or no private one can be started.
    """
    host, chosen = address()
    os.environ.update(certificates())
    with signals.as_ctrl_c():
        try:
            connect(host)
        except NoEngineError:
            if chosen:
                raise
        else:
            yield host
            return
        private = PrivateEngine(paths.cache().resolve() / "engine", progress)
        try:
            private.enter()
            yield private.host
        finally:
            with signals.undisturbed():
                private.leave()


def running() -> str | None:
    """Return the address of the private engine that some run has started; None where there is none."""
    private = PrivateEngine(paths.cache().resolve() / "engine", lambda _: None)
    return private.host if private.runs else None


def require_startable() -> None:
    """Check that a private engine can be started.

    Raises:
        EngineError: it cannot.
    """
    private = PrivateEngine(paths.cache().resolve() / "engine", lambda _: None)
    private.check()
    if not private.runs:
        private.check_neighbours()


@dataclass
class PrivateEngine:
    """The engine whose data lies in ``folder``, as one of its users sees it."""

    folder: Path
    progress: Progress
    _user: IO[str] | None = field(default=None, init=False)
    """Holds this user's share of the lock."""

    @property
    def socket(self) -> Path:
        """Return where the engine listens."""
        return self.folder / "docker.sock"

    @property
    def host(self) -> str:
        """Return the engine's address, as DOCKER_HOST takes it."""
        return f"unix://{self.socket}"

    @property
    def runs(self) -> bool:
        """Return whether its process exists; it may not answer."""
        return bool(self._pids("dockerd"))

    @property
    def log(self) -> Path:
        """Return where dockerd writes its log."""
        return self.folder / "dockerd.log"

    def enter(self) -> None:
        """Become a user of the engine; the first one starts it.

        Raises:
            EngineError: it cannot be started.
        """
        self.check()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o711)
            with self._alone():
                user = (self.folder / "users.lock").open("w")
                # filelock has no shared locks. This one is free: only a process in _alone() locks it exclusively.
                fcntl.flock(user, fcntl.LOCK_SH)
                self._user = user
                self._ensure()
        except OSError as error:
            raise EngineError(
                f"the private engine's folder {self.folder} cannot be used: {error}",
                "free space there, or set CONFORMANCE_CACHE to a folder of yours",
            ) from error

    def leave(self) -> None:
        """Stop using the engine; the last user stops it. Does nothing without :meth:`enter`."""
        if self._user is None:
            return
        with self._user as user, self._alone():
            self._user = None
            try:
                fcntl.flock(user, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress("the private engine keeps running: another run uses it")
            else:
                if self._pids():
                    self.progress("stopping the private engine")
                self.stop()

    def stop(self) -> None:
        """Stop the engine, its containers and helpers, and remove all leftovers but the data.

        Raises:
            EngineError: something could not be taken away.
        """
        for pid in (running := self._pids("dockerd")):
            kill(pid, signal.SIGTERM)
        try:
            # Without dockerd nobody tells its helpers to end.
            wait_for("the engine's end", lambda: not self._pids(), seconds=STOP_SECONDS if running else 0)
        except DeadlineExpired:
            self._kill_all()
        shutil.rmtree(self.folder / "exec", ignore_errors=True)
        for leftover in (self.socket, self.folder / "docker.pid"):
            leftover.unlink(missing_ok=True)
        before = self._before()
        if before is not None and not other_engines():
            residue.remove(before)
        containers = [folder.name for folder in (self.folder / "data" / "containers").glob("*")]
        residue.remove_groups(containers, shared=bool(other_engines(everywhere=True)))
        self._before_file.unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------- starting

    def _ensure(self) -> None:
        if self.runs:
            try:
                connect(self.host)
            except EngineError:
                self.progress("replacing the private engine of an earlier run, which does not answer")
                self.stop()
            else:
                self.progress("using the private engine, which already runs")
                return
        elif self._pids():
            self.progress("removing leftovers of a killed private engine")
            self.stop()
        self.check_neighbours()
        self.progress(f"no container engine answers: starting a private one in {self.folder}")
        if self._before() is None:
            self._before_file.write_text(residue.look().to_json(), encoding="utf-8")
        try:
            self._start()
        except BaseException:
            with signals.undisturbed():
                self.stop()
            raise

    def check(self) -> None:
        """Raise EngineError where this machine cannot start the engine."""
        if shutil.which("dockerd", path=_path()) is None:
            raise EngineError(
                "no container engine answers, and dockerd is not installed to start a private one",
                "sudo apt-get install docker.io, or set DOCKER_HOST to a running engine",
            )
        if os.geteuid() != 0:
            raise EngineError(
                "no container engine answers, and only root can start a private one",
                "start Docker (sudo systemctl start docker), or run as root: sudo ./run matrix",
            )
        longest = self.folder / "exec" / "containerd" / "containerd.sock.ttrpc"
        if len(os.fsencode(longest)) > SOCKET_PATH_BYTES:
            raise EngineError(
                f"the path of the private engine's sockets is too long: {longest}",
                f"set CONFORMANCE_CACHE to a shorter path: this one may have at most {SOCKET_PATH_BYTES} bytes",
            )

    @staticmethod
    def check_neighbours() -> None:
        """Raise EngineError where another engine runs that a private one would disturb."""
        for pid, command in other_engines().items():
            raise EngineError(
                f"another Docker engine runs on this machine (process {pid}: {' '.join(command)})"
                f" but does not answer at {address()[0]}; a second one would overwrite its firewall rules",
                "set DOCKER_HOST to its address (after -H or --host), or stop it",
            )

    def _start(self) -> None:
        config = self.folder / "daemon.json"
        config.write_text("{}\n", encoding="ascii")  # the system's may name folders and addresses of its own
        (self.folder / "docker.pid").unlink(missing_ok=True)
        command = [
            # In mounts of its own: whatever dockerd mounts is gone with its last process, also if that is killed.
            *("unshare", "--mount", "--propagation", "slave"),
            "dockerd",
            f"--config-file={config}",
            f"--data-root={self.folder / 'data'}",
            f"--exec-root={self.folder / 'exec'}",
            f"--pidfile={self.folder / 'docker.pid'}",
            f"--host={self.host}",
            f"--group={os.getegid()}",
            "--shutdown-timeout=5",
        ]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PATH": _path()},
                start_new_session=True,  # a terminal's ctrl-C must not stop it before its containers were taken down
            )

        def answers() -> bool:
            if process.poll() is not None:
                raise self._failed(f"ended with status {process.returncode}")
            try:
                connect(self.host, seconds=5)
            except EngineError:
                return False
            return True

        try:
            wait_for("the private engine", answers, seconds=START_SECONDS, interval=0.2)
        except DeadlineExpired as error:
            raise self._failed(f"did not answer within {START_SECONDS:g} s") from error
        # Reaps it as soon as it ends: a zombie would count as running for whoever looks at its process ID.
        threading.Thread(target=process.wait, daemon=True).start()

    def _failed(self, how: str) -> EngineError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = "\n".join(f"    {line}" for line in lines[-8:])
        why = next((line for line in reversed(lines) if "failed to start daemon" in line), last).lower()
        remedy = next((remedy for word, remedy in _REMEDIES if word in why), f"read {self.log}")
        return EngineError(f"the private engine {how}; end of its log:\n{last}", remedy)

    # ------------------------------------------------------------------------------------------------- processes

    def _pids(self, *programs: str) -> list[int]:
        """Return the engine's own processes by their command lines; a PID file may be out of date."""
        inside = f"{self.folder}/"
        return [
            pid
            for pid, command in processes().items()
            if Path(command[0]).name in (programs or _PROGRAMS) and any(inside in part for part in command)
        ]

    def _kill_all(self) -> None:
        """Kill the remaining processes and their containers."""
        doomed = with_descendants(self._pids())
        for pid in doomed:
            kill(pid, signal.SIGKILL)
        try:
            wait_for("the end of killed processes", lambda: not self._pids(), seconds=STOP_SECONDS)
        except DeadlineExpired as error:
            pids = " ".join(map(str, self._pids()))
            raise EngineError(
                f"the private engine's processes {pids} still run, {STOP_SECONDS:g} s after SIGKILL",
                f"see what they wait for (ps -o pid,stat,wchan,args {pids}), or restart the machine",
            ) from error

    # ------------------------------------------------------------------------------------------------- state

    @property
    def _before_file(self) -> Path:
        return self.folder / "host-before.json"

    def _before(self) -> residue.Host | None:
        """Return how the host was before the engine; None if that was not kept, or in another life of the machine."""
        try:
            before = residue.Host.from_json(self._before_file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return before if before.boot == residue.boot() else None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which the engine is started and stopped."""
        lock = self.folder / "change.lock"
        try:
            with FileLock(lock, timeout=LOCK_SECONDS):
                yield
        except Timeout as error:
            raise EngineError(
                f"another run has been starting or stopping the private engine for {LOCK_SECONDS:g} s",
                f"see which process holds the lock (fuser -v {lock}), and end it",
            ) from error


def run(command: Sequence[str], progress: Progress) -> int:
    """Run a command with DOCKER_HOST set to an engine that answers, and return its exit status.

    Raises:
        EngineError: there is no engine and none can be started.
        HarnessError: the command cannot be started.
    """
    with engine(progress) as host:
        child: subprocess.Popen[bytes] | None = None
        try:
            with signals.deferred():  # what has started by then is known, and ended as well
                child = subprocess.Popen(command, env={**os.environ, "DOCKER_HOST": host})
            status = child.wait()
        except OSError as error:
            raise HarnessError(
                f"cannot run {command[0]}: {error.strerror}", "see whether the program is installed and in PATH"
            ) from error
        except KeyboardInterrupt as end:
            if child is None:
                raise
            if isinstance(end, signals.Terminated):
                # A terminal's ctrl-C has reached it already, and a second one kills it.
                child.send_signal(signal.SIGINT)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
        return status if status >= 0 else 128 - status


def _path() -> str:
    """Return PATH with the administrator's folders, which an ordinary login on Debian lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
