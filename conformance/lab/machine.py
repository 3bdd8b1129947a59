"""A running lab: its state, commands in it, and its end."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from conformance.engine.ssh_tunnel import Tunnel
from conformance.errors import ContractError, LabError
from conformance.lab import definition
from conformance.lab.definition import Host
from conformance.lab.disk import Disk
from conformance.lab.monitor import monitor
from conformance.util import paths, signals
from conformance.util import process as program
from conformance.util.wait import DeadlineExpired, wait_for

LOG = logging.getLogger(__name__)

COLD_SECONDS = 600
"""Deadline from QEMU's start to a reachable engine; emulation on two idle cores takes 45 s."""

READY_SECONDS = 240
"""Deadline for libvirt in a lab's container: it takes 10 s, many times more on a loaded machine."""

COMMAND_SECONDS = 30
END_SECONDS = 10

CONSOLE_LINES = 25
"""Lines of the console in an error message."""

ENGINE = "/var/run/docker.sock"


@dataclass(frozen=True)
class Machine:
    """A running lab.

    Attributes:
        host: its definition.
        disk: its disk, and the SSH keys.
        folder: its own files.
        pid: QEMU's process ID.
        port: the port of its sshd on the loopback address.
        kept: whether it stays after the end of the process that started it.
        accel: its accelerator, as records name it.
        process: QEMU if it is a child of this process. Kept, because the destructor of a Popen may swallow ctrl-C.
    """

    host: Host
    disk: Disk
    folder: Path
    pid: int
    port: int
    kept: bool
    accel: str
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)

    @property
    def console(self) -> Path:
        """Return the file with the output of its serial console."""
        return self.folder / "console.log"

    @property
    def alive(self) -> bool:
        """Whether its QEMU runs."""
        return _is_qemu(self.pid, self.folder)

    def state(self) -> str:
        """Return its state: QEMU's own word, ``ended``, or ``hung`` if QEMU does not answer."""
        if not self.alive:
            return "ended"
        try:
            with monitor(self.folder / "monitor") as asked:
                return str(asked.ask("query-status")["status"])
        except LabError:
            return "hung"

    def ssh(self, *command: str) -> list[str]:
        """Return the command line that runs a command in it, or a shell."""
        return ["ssh", *self.disk.ssh(self.port), "root@127.0.0.1", *command]

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a shell command in it, and return the output.

        Raises:
            LabError: the command failed, or did not end in time.
        """
        words = self.ssh(command)
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise self.failed(f"did not finish {command!r} within {seconds:g} s") from error
        if done.returncode != 0:
            raise self.failed(f"failed to run {command!r}: {done.stderr.strip() or f'status {done.returncode}'}")
        return done.stdout

    def tunnel(self) -> Tunnel:
        """Open a tunnel to its engine, until the end of this process; raises EngineError."""
        return Tunnel(f"ssh://root@127.0.0.1:{self.port}{ENGINE}", self.disk.ssh(self.port)[2:])

    def failed(self, what: str) -> LabError:
        """Return an error with the end of the console; copy the whole console to artefacts/."""
        state = self.state()
        words = f"; QEMU wrote:\n{program.tail(self.folder / 'qemu.log', 5)}" if state == "ended" else ""
        paths.ARTEFACTS.mkdir(exist_ok=True)
        kept = paths.ARTEFACTS / f"lab-{self.folder.name}.console.log"
        with contextlib.suppress(OSError):
            shutil.copyfile(self.console, kept)
        remedy = {
            "ended": "start it again: conformance lab up",
            "io-error": "make room on the disk of the cache, which is full",
        }.get(state, f"read {kept.relative_to(paths.PROJECT)}; if it fails again, run conformance lab rebuild")
        return LabError(
            f"the lab {self.host.name} {what}; its state: {state}{words}\n"
            f"its console ends with:\n{program.tail(self.console, CONSOLE_LINES)}",
            remedy,
        )

    def check(self) -> None:
        """Raise LabError unless it runs and answers."""
        if self.state() != "running":
            raise self.failed("no longer runs")
        self.run("true")

    def stop(self) -> None:
        """End it, and remove its files and its disk; ctrl-C is ignored meanwhile."""
        LOG.debug("lab %s: ending process %d and removing %s", self.host.name, self.pid, self.folder)
        with signals.undisturbed():
            if self.alive:
                os.kill(self.pid, signal.SIGTERM)
                with contextlib.suppress(DeadlineExpired):
                    wait_for("the lab's end", lambda: not self._there(), seconds=END_SECONDS)
                if self._there():
                    os.kill(self.pid, signal.SIGKILL)
                    self.await_end(END_SECONDS)
            shutil.rmtree(self.folder, ignore_errors=True)

    def await_end(self, seconds: float) -> None:
        """Wait until its QEMU has ended; raises LabError after ``seconds``."""
        try:
            wait_for("the lab's end", lambda: not self._there(), seconds=seconds)
        except DeadlineExpired as error:
            raise self.failed(f"did not end within {seconds:g} s (QEMU is process {self.pid})") from error

    def _there(self) -> bool:
        if self.process:
            self.process.poll()  # else it would stay as a zombie
        return self.alive

    def remember(self) -> None:
        """Write the file by which other processes find it."""
        facts = {"host": self.host.name, "disk": str(self.disk.folder), "pid": self.pid, "port": self.port}
        (self.folder / "machine.json").write_text(
            json.dumps({**facts, "kept": self.kept, "accel": self.accel}), encoding="utf-8"
        )


def _is_qemu(pid: int, folder: Path) -> bool:
    """Return whether a process is the QEMU of a machine: process IDs are used again."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:  # it has ended, or is a zombie
        return False
    return any(str(folder) in word for word in words)


def running(cache: Path | None = None) -> list[Machine]:
    """Return the running labs, and ended ones that were meant to stay; remove the files of all other dead ones."""
    found = []
    for folder in sorted(runs_folder(cache).iterdir()):
        try:
            facts = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
            machine = Machine(
                definition.load(facts["host"]),
                Disk(Path(facts["disk"])),
                folder,
                facts["pid"],
                facts["port"],
                facts["kept"],
                facts["accel"],
            )
        except (OSError, ValueError, KeyError, TypeError, ContractError):
            if not _being_started(folder):
                shutil.rmtree(folder, ignore_errors=True)
            continue
        if machine.alive or machine.kept:
            found.append(machine)
        elif not _being_started(folder):  # between two programs, a process has no command line
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _being_started(folder: Path) -> bool:
    """Return whether the process that made a machine's folder may still be starting the machine."""
    with contextlib.suppress(
        OSError, IndexError, ValueError
    ):  # removed meanwhile, or nothing that this module has made
        maker = folder.name.rsplit("-", 2)[1]
        return psutil.pid_exists(int(maker)) and time.time() - folder.stat().st_mtime < COLD_SECONDS
    return False


def runs_folder(cache: Path | None = None) -> Path:
    """Return the folder with one folder for each lab."""
    folder = (cache or paths.cache()) / "lab" / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
