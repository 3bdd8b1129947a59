"""Start of a lab: boot it, or resume it from a saved state, and wait for its engine."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from conformance.engine import image
from conformance.engine.client import connect
from conformance.engine.ssh_tunnel import Tunnel
from conformance.errors import EngineError, LabError
from conformance.lab import disk, emulator, packages
from conformance.lab.definition import Host
from conformance.lab.disk import Disk
from conformance.lab.emulator import Emulator
from conformance.lab.machine import COLD_SECONDS, COMMAND_SECONDS, END_SECONDS, Machine, running, runs_folder
from conformance.lab.monitor import monitor
from conformance.lab.qemu_command import command
from conformance.media import probe as probe_media
from conformance.media import store
from conformance.util import process as program
from conformance.util import signals
from conformance.util.ports import free_port
from conformance.util.wait import DeadlineExpired, wait_for

LOG = logging.getLogger(__name__)

Progress = Callable[[str], None]

RESUME_SECONDS = 90
"""Deadline from a saved state to a reachable engine."""

SETTLE_SECONDS = 180
"""Deadline for systemd to finish booting, before a state is saved."""

SAVE_SECONDS = 120
SHUTDOWN_SECONDS = 180
COPY_SECONDS = 300

STATE = ("disk.qcow2", "memory")


@contextlib.contextmanager
def engine(host: Host, progress: Progress) -> Iterator[tuple[Machine, Tunnel]]:
    """Yield a lab and a tunnel to its engine: a lab that is up already, else one that ends with the context.

    Raises:
        LabError: the lab cannot be built or started.
    """
    up = next((one for one in running() if one.kept and one.host == host and one.state() == "running"), None)
    machine = up or start(host, progress)
    try:
        if up:
            progress(f"using the lab {host.name} that is up (port {up.port})")
        tunnel = machine.tunnel()
        try:
            yield machine, tunnel
        finally:
            tunnel.close()
    finally:
        if not up:
            progress(f"stopping the lab {host.name}")
            machine.stop()


def require(host: Host, *, anew: bool = False) -> None:
    """Check, before any work, that the packages for a host's start are installed; ``anew``: with a new disk.

    Raises:
        LabError: packages are missing, or this user may not use user namespaces.
    """
    packages.require("start", *disk.takes(host, anew=anew), *(("qemu",) if emulator.builds() else ()))


def start(host: Host, progress: Progress, *, keep: bool = False, saved: bool = True) -> Machine:
    """Start a lab and wait until its engine answers; build missing parts first.

    Under emulation the lab resumes from a saved state, which the first start makes. An unusable state is removed, and
    the lab boots.

    Args:
        host: the definition.
        progress: gets each step.
        keep: the lab outlives this process; otherwise it ends with the process, even if that is killed.
        saved: the lab may resume from a saved state.

    Raises:
        LabError: a package is missing, or the lab cannot be built or started.
        HarnessError: neither an engine of this machine nor the lab can build the image.
    """
    require(host)
    qemu = emulator.ensure(probe_media.ensure(progress), progress)
    made = disk.ensure(host, progress)
    if made.without_image.exists():
        with store.locked(made.folder / "state.lock", progress, f"the image of the lab {host.name}"):
            if made.without_image.exists():  # no other process was faster
                _build_image(host, made, qemu, progress)
    if not saved or qemu.accel == "kvm":  # it boots in seconds, and a state would depend on this processor
        return _boot(host, made, qemu, progress, keep=keep)
    state = made.folder / f"state-{_key(host, qemu)}"
    with store.locked(made.folder / "state.lock", progress, f"the saved state of the lab {host.name}"):
        if not all((state / name).exists() for name in STATE):
            _save(host, made, qemu, state, progress)
    try:
        return _resume(host, made, qemu, state, progress, keep=keep)
    except LabError as error:
        progress(f"the saved state of the lab {host.name} cannot be used, booting it: {error.message.splitlines()[0]}")
        shutil.rmtree(state, ignore_errors=True)
        return _boot(host, made, qemu, progress, keep=keep)


def _key(host: Host, qemu: Emulator) -> str:
    """Return a hash of the saved state's dependencies beside the disk: QEMU's program and command line."""
    # The folder's name is the hash of the program's recipe; the path of the cache does not matter.
    anywhere = dataclasses.replace(qemu, program="/".join(Path(qemu.program).parts[-2:]))
    words = command(host, Disk(Path("disk")), anywhere, Path("folder"), Path("root"), port=0)
    return hashlib.sha256(json.dumps([qemu.version, *words]).encode()).hexdigest()[:12]


def _boot(host: Host, made: Disk, qemu: Emulator, progress: Progress, *, keep: bool) -> Machine:
    progress(f"booting the lab {host.name} under {qemu.described}")
    machine = _launch(host, made, qemu, made.root, "raw", keep=keep)
    with _ended_on_error(machine):
        _await_engine(machine, COLD_SECONDS)
    return machine


def _resume(host: Host, made: Disk, qemu: Emulator, saved: Path, progress: Progress, *, keep: bool) -> Machine:
    progress(f"starting the lab {host.name} from its saved state")
    incoming = ["-incoming", f"exec:cat '{saved / 'memory'}'"]
    machine = _launch(host, made, qemu, saved / "disk.qcow2", "qcow2", *incoming, keep=keep)
    with _ended_on_error(machine):

        def loaded() -> bool:
            if not machine.alive:
                raise machine.failed("ended while it loaded its saved state")
            return machine.state() == "paused"

        try:
            wait_for("the lab's memory to be loaded", loaded, seconds=RESUME_SECONDS, seen=machine.state)
        except DeadlineExpired as error:
            raise machine.failed(f"did not load its saved state: {error.message}") from error
        with monitor(machine.folder / "monitor") as asked:
            asked.ask("cont")
        _await_engine(machine, RESUME_SECONDS)
        machine.run(f"date --set=@{time.time():.3f}")  # its clock stood still
    return machine


def _build_image(host: Host, made: Disk, qemu: Emulator, progress: Progress) -> None:
    """Boot a lab, build the image with its engine, and keep it on the disk, completely or not at all."""
    machine = _boot(host, made, qemu, progress, keep=False)
    try:
        progress(f"the lab {host.name} builds the image, once; this takes ten minutes under emulation")
        tunnel = machine.tunnel()
        try:
            image.ensure_image(connect(f"unix://{tunnel.socket}"), progress)
        except EngineError as error:
            raise machine.failed(f"did not build the image: {error}") from error
        finally:
            tunnel.close()
        machine.run("systemctl poweroff")
        machine.await_end(SHUTDOWN_SECONDS)
        new = made.folder / "disk.new"
        convert = ["qemu-img", "convert", "-O", "raw", str(machine.folder / "disk.qcow2"), str(new)]
        program.run(convert, log=machine.folder / "qemu.log", seconds=COPY_SECONDS)
        new.replace(made.root)
        made.without_image.unlink()
    finally:
        machine.stop()


def _save(host: Host, made: Disk, qemu: Emulator, saved: Path, progress: Progress) -> None:
    """Boot a lab and save its state, completely or not at all."""
    machine = _boot(host, made, qemu, progress, keep=False)
    try:
        progress(f"saving the state of the lab {host.name}, once")
        machine.run("systemctl is-system-running --wait || true", SETTLE_SECONDS)
        machine.run("sync; echo 3 >/proc/sys/vm/drop_caches")
        new = machine.folder / "saved"
        new.mkdir()
        with monitor(machine.folder / "monitor") as asked:
            asked.ask("stop")
            asked.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            asked.ask("migrate", uri=f"exec:cat >'{new / 'memory'}'")

            def written() -> bool:
                status = asked.ask("query-migrate").get("status")
                if status in ("failed", "cancelled"):
                    raise LabError(f"QEMU could not save the lab's state: {status}", "conformance lab rebuild")
                return bool(status == "completed")

            try:
                wait_for("the lab's state to be saved", written, seconds=SAVE_SECONDS)
            except DeadlineExpired as error:
                raise machine.failed(f"did not save its state within {SAVE_SECONDS:g} s") from error
            asked.ask("quit")
        machine.await_end(END_SECONDS)
        (machine.folder / "disk.qcow2").rename(new / "disk.qcow2")
        for state in made.folder.glob("state-*/"):  # states of another QEMU or another machine are of no use
            shutil.rmtree(state, ignore_errors=True)
        new.rename(saved)
    finally:
        machine.stop()


def _launch(
    host: Host, made: Disk, qemu: Emulator, backing: Path, kind: str, *more: str, keep: bool, tries: int = 3
) -> Machine:
    """Start QEMU on an overlay over a read-only disk, named by its real path: links may be removed."""
    folder = runs_folder() / f"{host.name}-{os.getpid()}-{secrets.token_hex(3)}"
    machine: Machine | None = None
    try:
        folder.mkdir(mode=0o700)
        program.run(
            [
                *("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing.resolve()), "-F", kind),
                str(folder / "disk.qcow2"),
            ],
            log=folder / "qemu.log",
            seconds=60,
        )
        program.run(["qemu-img", "create", "-q", str(folder / "spare.raw"), "64M"], log=folder / "qemu.log", seconds=60)
        port = free_port()
        words = command(host, made, qemu, folder, folder / "disk.qcow2", port=port)
        # It ends with this process, even if that is killed (prctl(2), PR_SET_PDEATHSIG).
        tied = [] if keep else ["setpriv", "--pdeathsig", "KILL", "--"]
        with (folder / "qemu.log").open("ab") as log, signals.deferred():
            process = subprocess.Popen(
                [*tied, *words, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # ctrl-C in a terminal must not end it before the clean-up inside of it
            )
            machine = Machine(host, made, folder, process.pid, port, keep, qemu.described, process)
        LOG.debug("lab %s: process %d: %s", host.name, process.pid, shlex.join([*words, *more]))
    except BaseException:
        if machine:
            machine.stop()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with _ended_on_error(machine):
        machine.remember()

        def up() -> bool:
            status = process.poll()
            if status is not None:
                if b"hostfwd" in (folder / "qemu.log").read_bytes() and tries > 1:
                    return True  # another process took the port first
                raise machine.failed(f"did not start: QEMU ended with status {status}")
            return (folder / "monitor").exists()

        try:
            wait_for("the lab's QEMU to start", up, seconds=END_SECONDS, interval=0.02)
        except DeadlineExpired as error:
            raise machine.failed(f"did not start: QEMU opened no monitor within {END_SECONDS:g} s") from error
    if process.poll() is not None:
        machine.stop()
        return _launch(host, made, qemu, backing, kind, *more, keep=keep, tries=tries - 1)
    return machine


@contextlib.contextmanager
def _ended_on_error(machine: Machine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        machine.stop()
        raise


def _await_engine(machine: Machine, seconds: float) -> None:
    """Wait until a lab's engine answers.

    Raises:
        LabError: the engine does not answer within ``seconds``, or QEMU ended.
    """
    said = ""

    def answers() -> bool:
        nonlocal said
        if not machine.alive:
            raise machine.failed("ended while it booted")
        try:
            done = subprocess.run(
                machine.ssh("test -S /var/run/docker.sock && systemctl is-active --quiet docker"),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = "no answer to ssh"
            return False
        said = done.stderr.strip()
        return done.returncode == 0

    try:
        wait_for("the lab's engine", answers, seconds=seconds, interval=0.5, seen=lambda: said)
    except DeadlineExpired as error:
        raise machine.failed(f"has no engine that answers within {seconds:g} s ({said})") from error
