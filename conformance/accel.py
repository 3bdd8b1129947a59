"""Whether the host's KVM runs a real kernel, asked beside libvirt and beside every mode.

/dev/kvm existing proves little: on some nested hosts a boot sector runs under KVM and every real kernel ends in
"KVM internal error". So bare QEMU boots the probe's kernel, as root, in a container that has the device and
nothing else. What this container cannot do, no mode of the image can be blamed for.
"""

import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

import docker
import docker.errors

from conformance import throwaway
from conformance.container import NO_DEVICE, engine_errors
from conformance.media import CMDLINE, Probe
from conformance.report import MARK
from conformance.wait import DeadlineExpired, wait_for

BOOT_SECONDS = 40
"""The probe's kernel takes 1 s under KVM, and 5 s where that KVM is itself emulated."""

QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class HostKvm:
    """What the host's KVM can do.

    Attributes:
        usable: guests can be asked to run under it.
        seen: what was seen, in one line.
    """

    usable: bool
    seen: str


def ask(client: docker.DockerClient, image: str, probe: Probe, run: str) -> HostKvm:
    """Boot the probe's kernel under bare QEMU with KVM.

    An image whose QEMU is missing or knows no KVM says nothing about the host: then KVM counts as usable, and the
    image's own guests give the verdict.

    Raises:
        EngineError: the engine is gone.
    """
    command = (
        f"timeout -k 1 {BOOT_SECONDS} {QEMU} -accel kvm -cpu host -machine q35 -m 256 -display none -nodefaults"
        " -no-reboot -serial stdio -kernel /probe/vmlinuz -initrd /probe/initrd -append"
    ).split()
    device = ["/dev/kvm:/dev/kvm:rwm"]
    with (
        engine_errors(),
        throwaway.created(
            client, image, [*command, f"{CMDLINE} probe.nonce=kvm"], run=run, devices=device, network_mode="none"
        ) as container,
    ):
        client.api.put_archive(container, "/", _media(probe))
        try:
            client.api.start(container)
        except docker.errors.APIError as error:
            if NO_DEVICE.search(error.explanation or ""):
                return HostKvm(False, "the host has no /dev/kvm")
            return HostKvm(True, f"could not be asked: {error.explanation}")
        return _watch(client, container)


def _watch(client: docker.DockerClient, container_id: str) -> HostKvm:
    """Follow QEMU until its output decides or it ends: after an internal error it stays, paused, for ever."""
    output = ""

    def look() -> HostKvm | None:
        nonlocal output
        running = client.api.inspect_container(container_id)["State"]["Running"]
        output = client.api.logs(container_id).decode(errors="replace")
        return judge(output) or (None if running else _undecided(output))

    try:
        return wait_for("the probe's kernel to boot under bare KVM", look, seconds=BOOT_SECONDS, interval=0.2)
    except DeadlineExpired:
        return _undecided(output)


def judge(output: str) -> HostKvm | None:
    """Read what QEMU and the guest wrote so far; None while that decides nothing."""
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
        return HostKvm(True, f"could not be asked: {_last_line(output)}")
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
