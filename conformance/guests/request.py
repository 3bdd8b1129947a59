"""Requests for guests: the parts that a suite cares for; the factory adds volumes, links and the accelerator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.guests.devices import DeviceName, Firmware
from conformance.guests.spec import MEMORY_MIB, UNTUNED, MacvtapMode, Tuning
from conformance.host.pci import Device

TUNED_MIB = 256
"""Memory of a guest that is bound to parts of its host: this much is locked, or taken from the huge pages."""

TUNED_PROCESSORS = 2

PASSED_DISK = "sda"
"""The guest's name for the disk of a controller that is passed to it, where it has no other disk."""


@dataclass(frozen=True)
class GuestRequest:
    """A guest that stays for as long as a check needs it.

    Attributes:
        description: for progress, such as "a guest on eth0".
        devices: the registered devices that it has.
        firmware: how it boots.
        topics: the probe's topics that it reports on when it boots, separated by commas.
        orders: further orders to the probe.
        medium: a medium that it boots in place of the probe's, with a screen; it need not have a probe on it.
        macvtap_link: the host's link under its macvtap interface; by default the one to the peer network.
        macvtap_mode: that interface's mode.
        pci_device: a PCI device of the host that is passed to it.
        tuning: the parts of its host that it is bound to.
        memory_mib: memory in MiB.
        cpus: number of processors.
        cpu_model: libvirt's name of the processors' model; by default as a guest's specification has it.
        adjustable: there is a balloon for its memory, and room for a second processor.
        outlives: it may live longer than the connection, which snapshots need.
    """

    description: str
    devices: frozenset[DeviceName] = frozenset()
    firmware: Firmware = "bios"
    topics: str = ""
    orders: Mapping[str, str] = field(default_factory=dict)
    medium: Path | None = None
    macvtap_link: str = ""
    macvtap_mode: MacvtapMode = "bridge"
    pci_device: Device | None = None
    tuning: Tuning = UNTUNED
    memory_mib: int = MEMORY_MIB
    cpus: int = 1
    cpu_model: str = ""
    adjustable: bool = False
    outlives: bool = False


def on_medium(path: Path, *, firmware: Firmware, memory_mib: int = MEMORY_MIB) -> GuestRequest:
    """Request a guest with a screen that boots from a medium."""
    return GuestRequest(f"{path.name} by {firmware.upper()}", firmware=firmware, medium=path, memory_mib=memory_mib)


def tuned(tuning: Tuning) -> GuestRequest:
    """Request a guest that is bound to parts of its host."""
    return GuestRequest(
        "a guest that is bound to parts of its host", tuning=tuning, memory_mib=TUNED_MIB, cpus=TUNED_PROCESSORS
    )


def with_pci_device(device: Device) -> GuestRequest:
    """Request a guest with a PCI device of the host.

    It has a lease over a network card, and has written to the disk of a controller.
    """
    card = device.kind == "card"
    return GuestRequest(
        f"a guest that drives {device.address}, of the host's {device.driver}",
        topics="link,lease" if card else "disk",
        orders={} if card else {"device": PASSED_DISK},
        pci_device=device,
    )


def on_macvtap(*, link: str = "", mode: MacvtapMode = "bridge") -> GuestRequest:
    """Request a guest with a lease over a macvtap interface.

    Args:
        link: the host's link under the interface; by default the one to the peer network.
        mode: the interface's mode.
    """
    return GuestRequest(
        f"a guest on a macvtap interface of {link}" if link else f"a guest on a macvtap interface in mode {mode}",
        devices=frozenset({"macvtap"}),
        topics="link,lease",
        macvtap_link=link,
        macvtap_mode=mode,
    )


@dataclass(frozen=True)
class Installation:
    """A system that is installed from a medium; the defaults fit a small Linux.

    Attributes:
        medium: the medium that is booted.
        more: further media.
        orders: orders to the installer.
        disk_bytes: size of the disk; only written bytes take room.
        memory_mib: memory in MiB.
        cpus: number of processors.
        devices: registered devices beside disk and network.
    """

    medium: Path
    orders: Mapping[str, str] = field(default_factory=dict)
    more: tuple[Path, ...] = ()
    disk_bytes: int = 4 * 2**30
    memory_mib: int = 1024
    cpus: int = 1
    devices: frozenset[DeviceName] = frozenset()
