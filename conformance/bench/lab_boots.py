"""Many guests in a row under a lab's KVM: a load test of an emulated hypervisor and its QEMU."""

import contextlib
import time
from pathlib import Path

import libvirt

from conformance.errors import EngineError, HarnessError, ImageFailure
from conformance.guests.devices import Firmware
from conformance.guests.factory import Guests
from conformance.guests.guest import Guest
from conformance.guests.peer_network import PeerNetwork
from conformance.lab import startup
from conformance.lab.definition import Host
from conformance.media.probe import Probe
from conformance.model import contract, mode
from conformance.run.preparation import prepare
from conformance.util.progress import Progress

MODE = "privileged"
"""A mode in which guests boot on every lab, with any security module."""

BOOT_SECONDS = 600
"""Deadline of each boot, generous because a slow machine is no failure."""

FIRMWARE: tuple[Firmware, ...] = ("bios", "efi", "secure-boot")
"""The firmware of the boots, in turns."""


def measure(host: Host, progress: Progress, *, count: int, results: Path) -> list[float]:
    """Boot guests from an ISO in one container of a lab, one after the other.

    Args:
        host: the lab; a running one is used, else one is started and ended.
        progress: gets each boot.
        count: the number of boots.
        results: a folder for records; there are no verdicts.

    Returns:
        The duration of each boot, in seconds, from the call to libvirt to the guest's own end.

    Raises:
        HarnessError: the lab could not be started, a boot failed, or the lab ended; the message has the number of boots
            and the lab's console.
    """
    seconds: list[float] = []
    with startup.engine(host, progress) as (lab, tunnel):
        try:
            _boots(f"unix://{tunnel.socket}", progress, count, results, seconds)
        except (libvirt.libvirtError, AssertionError, HarnessError) as error:
            following = FIRMWARE[len(seconds) % len(FIRMWARE)]
            came = f"came through {len(seconds)} of {count} boots in a row, the next one being by {following}"
            raise lab.failed(f"{came}: {error}") from error
        lab.check()
    return seconds


def _boots(address: str, progress: Progress, count: int, results: Path, seconds: list[float]) -> None:
    """Append the duration of each boot."""
    run = prepare(contract.load(), progress, tag=None, choice="kvm", results=results, host_name=None, address=address)
    try:
        container = run.container(mode.from_contract(run.contract, MODE), network="default")
        container.start()
        container.wait_until_ready()
        guests = Guests(container, run.probe, PeerNetwork(run.engine.client, run.probe, run.id), "kvm", progress)
        for number in range(count):
            progress(f"boot {number + 1} of {count} in a row")
            began = time.monotonic()
            guest = guests.boot_alone("iso", firmware=FIRMWARE[number % len(FIRMWARE)], seconds=BOOT_SECONDS)
            require(guest, run.probe)
            seconds.append(round(time.monotonic() - began, 2))
    finally:
        with contextlib.suppress(EngineError):  # a lab that has ended needs no clean-up
            run.close()


def require(guest: Guest, probe: Probe) -> None:
    """Raise ImageFailure unless a guest reports the medium, the firmware and KVM as ordered."""
    boot, firmware = guest.report["boot"], guest.spec.firmware
    told = {
        "firmware": (boot["firmware"], "bios" if firmware == "bios" else "efi"),
        "Secure Boot": (bool(boot["secure_boot"]), firmware == "secure-boot"),
        "hypervisor": (boot["cpuid_signature"], "KVMKVMKVM"),
        "medium": (probe.recipe in guest.report["cdrom"]["marker"], True),
    }
    wrong = [f"{what} {said!r} instead of {wanted!r}" for what, (said, wanted) in told.items() if said != wanted]
    if wrong:
        raise ImageFailure(f"guest {guest.name} reports: {', '.join(wrong)}")
