"""Whether the host's KVM runs a real kernel, tested without libvirt and outside every mode.

The existence of /dev/kvm proves little: on some nested hosts a boot sector runs under KVM and every real kernel ends in
"KVM internal error". So bare QEMU boots the probe's kernel, as root, in a container that has the device and
nothing else. What this container cannot do, no mode of the image can be blamed for.
"""

import io
import re
import subprocess
import tarfile
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path

import docker.errors

from conformance.engine.api_errors import REMEDY, engine_errors
from conformance.engine.host_shell import HostShell
from conformance.engine.refusals import NO_DEVICE
from conformance.errors import EngineError, EngineGone
from conformance.media.probe import CMDLINE, Probe
from conformance.media.probe_report import MARK
from conformance.util.wait import DeadlineExpired, wait_for

BOOT_SECONDS = 120
"""The probe's kernel takes 1 s under KVM, and 5 s where that KVM is itself emulated; beside load much longer."""

SOON_SECONDS = 5
"""A host without /dev/kvm is known after one refused container; a boot overlaps with the first container's start."""

ANSWER_SECONDS = BOOT_SECONDS + 60
"""Includes the engine's own work: container, media, and the removal of both."""

CANCEL_SECONDS = 20
"""For the engine to finish a call that is under way."""

QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class HostKvm:
    """The state of the host's KVM.

    Attributes:
        usable: guests can run under it.
        seen: evidence, in one line.
    """

    usable: bool
    seen: str


class KvmProbe:
    """A test of the host's KVM in the background; callers wait only where they need the result.

    Args:
        shell: on the host, with QEMU.
        probe: the media; QEMU boots their kernel.
    """

    def __init__(self, shell: HostShell, probe: Probe) -> None:
        self._shell = shell
        self._client = shell.client
        self._probe = probe
        self._answer: Future[HostKvm] = Future()
        self._cancelled = threading.Event()
        # A daemon: an engine that hangs must not keep the process.
        self._thread = threading.Thread(target=self._ask, name="kvm-probe", daemon=True)

    def start(self) -> None:
        """Start the test."""
        self._thread.start()

    def result(self) -> HostKvm:
        """Wait for the result.

        Raises:
            EngineError: the engine refused, is gone, or does not answer.
        """
        try:
            return self._answer.result(ANSWER_SECONDS)
        except TimeoutError as error:
            raise EngineGone(
                f"the engine did not finish the boot of a kernel under bare KVM within {ANSWER_SECONDS} s", REMEDY
            ) from error

    def known(self) -> HostKvm | None:
        """Return the result if there is one soon, as on a host without /dev/kvm; else None."""
        try:
            return self._answer.result(SOON_SECONDS)
        except (TimeoutError, EngineError):
            return None  # checks that need KVM wait for it, and fail with the error

    def cancel(self) -> None:
        """Cancel the test: it creates nothing more on an engine that answers."""
        self._cancelled.set()
        if self._thread.ident is not None:
            self._thread.join(CANCEL_SECONDS)

    def _ask(self) -> None:
        try:
            self._answer.set_result(self._boot())
        except BaseException as error:
            self._answer.set_exception(error)  # raised in the thread that waits

    def _boot(self) -> HostKvm:
        """Boot the probe's kernel under bare QEMU with KVM.

        An image whose QEMU is missing or knows no KVM says nothing about the host: then KVM counts as usable, and
        the image's own guests give the verdict.
        """
        command = (
            f"timeout -k 1 {BOOT_SECONDS} {QEMU} -accel kvm -cpu host -machine q35 -m 256 -display none -nodefaults"
            " -no-reboot -serial stdio -kernel /probe/vmlinuz -initrd /probe/initrd -append"
        ).split()
        words = [*command, f"{CMDLINE} probe.nonce=kvm"]
        device = ["/dev/kvm:/dev/kvm:rwm"]
        with engine_errors():
            self._go_on()
            with self._shell.created(words, devices=device) as container:
                self._go_on()
                self._client.api.put_archive(container, "/", _media(self._probe))
                self._go_on()
                try:
                    self._client.api.start(container)
                except docker.errors.APIError as error:
                    if NO_DEVICE.search(error.explanation or ""):
                        return HostKvm(False, "the host has no /dev/kvm")
                    return HostKvm(True, f"not tested: {error.explanation}")
                return self._watch(container)

    def _watch(self, container: str) -> HostKvm:
        """Follow QEMU until its output decides or it ends: after an internal error it stays, paused, for ever."""
        output = ""

        def look() -> HostKvm | None:
            nonlocal output
            self._go_on()
            running = self._client.api.inspect_container(container)["State"]["Running"]
            output = self._client.api.logs(container).decode(errors="replace")
            return judge(output) or (None if running else _undecided(output))

        try:
            return wait_for("the probe's kernel to boot under bare KVM", look, seconds=BOOT_SECONDS, interval=0.2)
        except DeadlineExpired:
            return _undecided(output)

    def _go_on(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError


def boot_here(kernel: Path, *, seconds: float) -> HostKvm:
    """Boot any Linux under this machine's QEMU and KVM; its log names its hypervisor.

    Args:
        kernel: readable by this user.
        seconds: deadline; a kernel without a root file system panics before it.
    """
    words = (
        f"-accel kvm -cpu host -machine q35 -m 512 -display none -nodefaults -no-reboot -serial stdio -kernel {kernel}"
    )
    command = [QEMU, *words.split(), "-append", "console=ttyS0 panic=-1 no_timer_check"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    text = output.decode(errors="replace")
    if "Hypervisor detected: KVM" in text:
        return HostKvm(True, "bare QEMU booted a kernel under KVM")
    return judge(text) or _undecided(text)


def judge(output: str) -> HostKvm | None:
    """Read the output of QEMU and the guest so far; None while it decides nothing."""
    if MARK in output and '"KVMKVMKVM' in output:
        return HostKvm(True, "bare QEMU booted a kernel under KVM")
    failed = re.search(
        r"KVM internal error.*(?=\n)|Could not access KVM kernel module.*|ioctl\(KVM_\w+\) failed.*", output
    )
    if failed:
        detail = ", emulation failure" if "emulation failure" in output else ""
        return HostKvm(False, f"bare QEMU with KVM does not boot a kernel: {failed[0].strip()}{detail}")
    # The image's own fault: its guests will show it.
    if re.search(r"invalid accelerator kvm|not supported by this QEMU|executable file not found", output):
        return HostKvm(True, f"not tested: {_last_line(output)}")
    return None


def _undecided(output: str) -> HostKvm:
    return HostKvm(False, f"bare QEMU with KVM does not boot a kernel: {_last_line(output)}")


def _last_line(output: str) -> str:
    lines: Sequence[str] = output.strip().splitlines()
    return lines[-1].strip()[:200] if lines else f"nothing was written in {BOOT_SECONDS} s"


def _media(probe: Probe) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(probe.kernel, "probe/vmlinuz")
        archive.add(probe.initrd, "probe/initrd")
    return buffer.getvalue()
