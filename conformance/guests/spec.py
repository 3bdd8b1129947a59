"""The specification of a guest: all that its domain definition is written from."""

from dataclasses import dataclass
from typing import Literal

from conformance.guests.devices import DeviceName, Firmware

Accel = Literal["kvm", "tcg"]

DiskFormat = Literal["raw", "qcow2"]

MacvtapMode = Literal["bridge", "private", "vepa"]
"""How a macvtap interface treats its neighbours on the same link (libvirt's domain format, "Direct attachment")."""

MEMORY_MIB = 512
"""A UEFI guest with 256 MiB ends in GRUB's "out of memory" on some hosts."""


@dataclass(frozen=True)
class Tuning:
    """The parts of its host that a guest is bound to; by default none.

    Attributes:
        processors: the host's processors on which each of its processors runs, as a list in Linux' notation.
        emulator: the host's processors on which QEMU's own threads run; the same notation.
        nodes: the host's memory nodes that its memory is bound to (``strict``); the same notation.
        locked: its memory stays in the host's memory.
        hard_limit_mib: the memory that QEMU may have, and lock, in MiB.
        huge_pages: its memory consists of the host's huge pages, of their default size.
    """

    processors: str = ""
    emulator: str = ""
    nodes: str = ""
    locked: bool = False
    hard_limit_mib: int = 0
    huge_pages: bool = False


UNTUNED = Tuning()


@dataclass(frozen=True)
class GuestSpec:
    """The parts of a guest.

    Attributes:
        firmware: BIOS, UEFI, or UEFI with Secure Boot.
        accel: KVM or emulation.
        pool: libvirt's pool that has the volumes.
        iso: volume to boot from as a CD-ROM; without it the kernel is loaded directly.
        more_isos: volumes of further CD-ROMs, which are not booted from.
        kernel: path in the container of the kernel for a direct boot.
        initrd: path in the container of its initramfs.
        disk: volume of the VirtIO disk, or empty for none.
        disk_format: raw, or qcow2, which keeps snapshots.
        devices: names of registered devices; those with an element of their own are added as they are registered.
        adjustable: there is a balloon for its memory, and room for a second processor.
        network: libvirt network of the VirtIO network card, or empty for none.
        macvtap: host link under a macvtap interface, or empty for none.
        macvtap_mode: that interface's mode.
        hostdev: address of a PCI device of the host, or empty for none.
        managed: libvirt itself takes that device from the host and returns it.
        firmware_on_serial: the BIOS and its loaders write to the serial console too, as UEFI does anyway.
        nvram: path in the container of the file that keeps the UEFI variables; libvirt's own choice if empty.
        console_log: path in the container of a file in which QEMU keeps a copy of the console; none if empty.
        screen: whether there is a video card.
        memory_mib: memory in MiB.
        cpus: number of processors.
        cpu_model: libvirt's name of the processors' model; by default libvirt's own choice, and the host's with KVM.
        tuning: the parts of its host that it is bound to.
        installs: it boots from its disk as soon as that is bootable, until then from the CD-ROM, and may reboot.
        unbootable_reason: why a boot cannot be waited for, although it may start; empty if it can.
    """

    firmware: Firmware
    accel: Accel
    pool: str
    iso: str = ""
    kernel: str = ""
    initrd: str = ""
    disk: str = ""
    disk_format: DiskFormat = "raw"
    devices: frozenset[DeviceName] = frozenset()
    adjustable: bool = False
    network: str = ""
    macvtap: str = ""
    macvtap_mode: MacvtapMode = "bridge"
    hostdev: str = ""
    managed: bool = True
    firmware_on_serial: bool = False
    console_log: str = ""
    nvram: str = ""
    screen: bool = False
    memory_mib: int = MEMORY_MIB
    more_isos: tuple[str, ...] = ()
    cpus: int = 1
    cpu_model: str = ""
    tuning: Tuning = UNTUNED
    installs: bool = False
    unbootable_reason: str = ""
