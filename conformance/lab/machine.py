"""A lab that runs: started, asked, saved, and gone without a trace."""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from conformance.engine import image
from conformance.engine.client import connect
from conformance.engine.ssh_tunnel import Tunnel
from conformance.errors import ContractError, EngineError, LabError
from conformance.lab import definition, disk, emulator, packages
from conformance.lab.definition import Host
from conformance.lab.disk import Disk
from conformance.lab.emulator import Emulator
from conformance.lab.monitor import monitor
from conformance.media import probe as probe_media
from conformance.media import store
from conformance.util import paths, signals
from conformance.util import process as program
from conformance.util.ports import free_port
from conformance.util.wait import DeadlineExpired, wait_for

Progress = Callable[[str], None]

COLD_SECONDS = 600
"""From QEMU's start to an engine that answers; an emulated machine of two cores takes 45 s when nothing else runs."""

RESUME_SECONDS = 90
"""From a saved state to an engine that answers."""

SETTLE_SECONDS = 180
"""For systemd to have started everything, before a state is saved."""

SAVE_SECONDS = 120
SHUTDOWN_SECONDS = 180
COPY_SECONDS = 300
READY_SECONDS = 240
"""For a container in a lab to answer: 10 s, and beside load on the machine outside so many times more."""

COMMAND_SECONDS = 30
END_SECONDS = 10

CONSOLE_LINES = 25
"""So much of the console stands beside an error."""

ALWAYS = "root=/dev/vda rw console=ttyS0 net.ifnames=0 intel_iommu=on iommu=pt panic=-1".split()
"""Kernel arguments of each lab (Linux: kernel-parameters.txt)."""

EMULATED = ["no_timer_check", "mitigations=off"]
"""Under emulation the timer is checked too impatiently, and there is no speculation to be mitigated."""

ENGINE = "/var/run/docker.sock"

STATE = ("disk.qcow2", "memory")


@dataclass(frozen=True)
class Machine:
    """A lab that runs.

    Attributes:
        host: its definition.
        disk: what it was booted from, and the keys that open it.
        folder: its own files.
        pid: QEMU's process.
        port: of the loopback address, where its sshd answers.
        kept: it stays when the process that started it ends.
        accel: how it runs, for records.
        process: QEMU where it is this process's own. Held, because ctrl-C is lost in the end of a forgotten Popen.
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
        """Return the file that holds all that it wrote on its serial console."""
        return self.folder / "console.log"

    @property
    def alive(self) -> bool:
        """Say whether its QEMU still runs."""
        return _is_qemu(self.pid, self.folder)

    def state(self) -> str:
        """Say in a word how it is: what QEMU says of it, ``ended``, or ``hung`` where QEMU does not answer."""
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
        """Run a shell command in it, and return what that wrote.

        Raises:
            LabError: it failed, or did not end in time.
        """
        words = self.ssh(command)
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise self.failed(f"did not do {command!r} within {seconds:g} s") from error
        if done.returncode != 0:
            raise self.failed(f"did not do {command!r}: {done.stderr.strip() or f'status {done.returncode}'}")
        return done.stdout

    def tunnel(self) -> Tunnel:
        """Open a way to its engine, for as long as this process lives; raises EngineError."""
        return Tunnel(f"ssh://root@127.0.0.1:{self.port}{ENGINE}", self.disk.ssh(self.port)[2:])

    def failed(self, what: str) -> LabError:
        """Return an error that shows the console; that is kept in artefacts/, since the lab's own files go."""
        state = self.state()
        words = f"; QEMU said:\n{program.tail(self.folder / 'qemu.log', 5)}" if state == "ended" else ""
        paths.ARTEFACTS.mkdir(exist_ok=True)
        kept = paths.ARTEFACTS / f"lab-{self.folder.name}.console.log"
        with contextlib.suppress(OSError):
            shutil.copyfile(self.console, kept)
        remedy = {
            "ended": "start it again: conformance lab up",
            "io-error": "make room on the disk of the cache: the lab stopped when it could not write",
        }.get(state, f"read {kept.relative_to(paths.PROJECT)}; conformance lab rebuild makes everything anew")
        return LabError(
            f"the lab {self.host.name} {what}; it is: {state}{words}\n"
            f"its console ends with:\n{program.tail(self.console, CONSOLE_LINES)}",
            remedy,
        )

    def check(self) -> None:
        """Raise LabError unless it runs and its engine's host answers."""
        if self.state() != "running":
            raise self.failed("no longer runs")
        self.run("true")

    def stop(self) -> None:
        """End it, and remove its files; its disk is thrown away. Ctrl-C does not come in between."""
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
        """Wait until its QEMU has ended; raises LabError if that still runs after ``seconds``."""
        try:
            wait_for("the lab's end", lambda: not self._there(), seconds=seconds)
        except DeadlineExpired as error:
            raise self.failed(f"did not end within {seconds:g} s (QEMU is process {self.pid})") from error

    def _there(self) -> bool:
        if self.process:
            self.process.poll()  # else it would stay as a zombie
        return self.alive

    def remember(self) -> None:
        """Write down what another process needs to find it."""
        facts = {"host": self.host.name, "disk": str(self.disk.folder), "pid": self.pid, "port": self.port}
        (self.folder / "machine.json").write_text(
            json.dumps({**facts, "kept": self.kept, "accel": self.accel}), encoding="utf-8"
        )


def _is_qemu(pid: int, folder: Path) -> bool:
    """Say whether a process is the QEMU of a machine, and not a later one that got its number, or a dead one."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:  # it has ended, or is a zombie
        return False
    return any(str(folder) in word for word in words)


# ------------------------------------------------------------------------------------------------- all of them


def running(cache: Path | None = None) -> list[Machine]:
    """Return the labs that run or were to stay and have ended; what other dead ones left is removed."""
    found = []
    for folder in sorted(_runs(cache).iterdir()):
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
    """Say whether the process that has made a machine's folder may still be starting what belongs into it."""
    with contextlib.suppress(
        OSError, IndexError, ValueError
    ):  # removed meanwhile, or nothing that this module has made
        maker = folder.name.rsplit("-", 2)[1]
        return psutil.pid_exists(int(maker)) and time.time() - folder.stat().st_mtime < COLD_SECONDS
    return False


def _runs(cache: Path | None = None) -> Path:
    folder = (cache or paths.cache()) / "lab" / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextlib.contextmanager
def engine(host: Host, progress: Progress) -> Iterator[tuple[Machine, Tunnel]]:
    """Have a lab and a way to its engine: one that is up already, else one for as long as this lasts.

    Raises:
        LabError: it cannot be built or started.
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


# ------------------------------------------------------------------------------------------------- starting


def require(host: Host, *, anew: bool = False) -> None:
    """Name at once, before any work, what is missing for a host's start; ``anew``: with a disk made anew.

    Raises:
        LabError: packages are missing, or this user may not do what it takes.
    """
    packages.require("start", *disk.takes(host, anew=anew), *(("qemu",) if emulator.builds() else ()))


def start(host: Host, progress: Progress, *, keep: bool = False, saved: bool = True) -> Machine:
    """Start a lab and wait until its engine answers; everything it needs is made first, where it is not there.

    Under emulation it goes on from a saved state, which is made at the first start; one that cannot be used is thrown
    away, and the lab is booted.

    Args:
        host: which.
        progress: told what is being done.
        keep: it outlives this process; otherwise it ends with it, however that ends.
        saved: it may go on from a saved state.

    Raises:
        LabError: a package is missing, it cannot be built, or does not start.
        HarnessError: it cannot build the image, where no engine of this machine could.
    """
    require(host)
    qemu = emulator.ensure(probe_media.ensure(progress), progress)
    made = disk.ensure(host, progress)
    if made.without_image.exists():
        with store.locked(made.folder / "state.lock", progress, f"the image of the lab {host.name}"):
            if made.without_image.exists():  # nobody else was quicker
                _build_image(host, made, qemu, progress)
    if not saved or qemu.accel == "kvm":  # boots in seconds, and a state would hold what only this processor has
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
    """Return what a saved state depends on beside the disk: the program, and the machine that it emulates."""
    # The folder's name is the hash of the program's recipe; where the cache lies does not matter.
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
                raise machine.failed("did not take its saved state")
            return machine.state() == "paused"

        try:
            wait_for("the lab's memory to be loaded", loaded, seconds=RESUME_SECONDS, seen=machine.state)
        except DeadlineExpired as error:
            raise machine.failed(f"did not take its saved state: {error.message}") from error
        with monitor(machine.folder / "monitor") as asked:
            asked.ask("cont")
        _await_engine(machine, RESUME_SECONDS)
        machine.run(f"date --set=@{time.time():.3f}")  # its clock stood still
    return machine


def _build_image(host: Host, made: Disk, qemu: Emulator, progress: Progress) -> None:
    """Boot a lab, let its own engine build the image, and keep that on the disk, whole or not at all."""
    machine = _boot(host, made, qemu, progress, keep=False)
    try:
        progress(f"the lab {host.name} builds the image by itself, once; where it is emulated, that takes ten minutes")
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
    """Boot a lab and keep its state, whole or not at all."""
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
                    raise LabError(f"QEMU could not save the lab's state: {status}")
                return bool(status == "completed")

            try:
                wait_for("the lab's state to be saved", written, seconds=SAVE_SECONDS)
            except DeadlineExpired as error:
                raise machine.failed(f"did not save its state within {SAVE_SECONDS:g} s") from error
            asked.ask("quit")
        machine.await_end(END_SECONDS)
        (machine.folder / "disk.qcow2").rename(new / "disk.qcow2")
        for state in made.folder.glob("state-*/"):  # of another QEMU or another machine: nobody comes back to them
            shutil.rmtree(state, ignore_errors=True)
        new.rename(saved)
    finally:
        machine.stop()


def _launch(
    host: Host, made: Disk, qemu: Emulator, backing: Path, kind: str, *more: str, keep: bool, tries: int = 3
) -> Machine:
    """Start QEMU on a disk of its own over one that stays as it is, named by where it really lies: links may go."""
    folder = _runs() / f"{host.name}-{os.getpid()}-{secrets.token_hex(3)}"
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
        # It must not outlive who cannot end it any more, killed or not (prctl(2), PR_SET_PDEATHSIG).
        tied = [] if keep else ["setpriv", "--pdeathsig", "KILL", "--"]
        with (folder / "qemu.log").open("ab") as log, signals.deferred():
            process = subprocess.Popen(
                [*tied, *words, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a terminal's ctrl-C must not end it before the clean-up in it is done
            )
            machine = Machine(host, made, folder, process.pid, port, keep, qemu.described, process)
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
                    return True  # somebody else was quicker to take the port
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
    """Wait until the engine in it answers.

    Raises:
        LabError: it does not within ``seconds``, or QEMU ended.
    """
    said = ""

    def answers() -> bool:
        nonlocal said
        if not machine.alive:
            raise machine.failed("ended while it was booted")
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
            said = "ssh was not answered"
            return False
        said = done.stderr.strip()
        return done.returncode == 0

    try:
        wait_for("the lab's engine", answers, seconds=seconds, interval=0.5, seen=lambda: said)
    except DeadlineExpired as error:
        raise machine.failed(f"did not get to an engine that answers within {seconds:g} s ({said})") from error


BEYOND = "eth1"
"""The lab's link to a network with a DHCP server, on which the lab itself has no address."""

SPARE = ("0000:00:04.0", "0000:00:05.0")
"""The card and the disk controller for a passthrough: QEMU gives the slots of its bus in the order of the devices."""


def command(host: Host, made: Disk, qemu: Emulator, folder: Path, root: Path, *, port: int) -> list[str]:
    """Return QEMU's command line.

    Beside what boots there is what a passthrough takes, each in an IOMMU group of its own: a spare network card on a
    network of its own, and a spare disk controller with a disk (:data:`SPARE`). The card :data:`BEYOND` is on a network
    with a DHCP server, for guests on macvtap. Nothing listens but the forwarded port of sshd, on the loopback address.
    """
    virtual = qemu.accel == "tcg"
    arguments = [*ALWAYS, *(EMULATED if virtual else []), *host.kernel_arguments]
    return [
        *(qemu.program, *(word for path in emulator.FIRMWARE for word in ("-L", path))),
        *("-name", f"lab-{host.name}", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35,kernel-irqchip=split", "-smp", str(host.cpus), "-m", str(host.memory_mib)),
        *(
            ("-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt")
            if virtual
            else ("-accel", "kvm", "-cpu", "host,migratable=off")
        ),
        *("-device", "intel-iommu,intremap=on,caching-mode=on"),
        *("-kernel", str(made.kernel), "-initrd", str(made.initrd), "-append", " ".join(arguments)),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
        # Thrown away with the lab: what the host's cache still holds when it ends is not missed.
        *("-drive", f"if=none,id=root,file={root},format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-netdev", f"user,id=outside,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=outside,romfile="),
        *("-netdev", "user,id=beyond,net=10.0.3.0/24,restrict=on"),
        *("-device", "virtio-net-pci,netdev=beyond,romfile="),
        *("-netdev", "user,id=spare,net=10.0.4.0/24,restrict=on"),
        *("-device", "virtio-net-pci,netdev=spare,romfile=,disable-legacy=on,iommu_platform=on"),
        *("-drive", f"if=none,id=spare-disk,file={folder / 'spare.raw'},format=raw"),
        *("-device", "ich9-ahci,id=spare", "-device", "ide-hd,bus=spare.0,drive=spare-disk"),
        *("-device", "virtio-rng-pci"),
    ]
