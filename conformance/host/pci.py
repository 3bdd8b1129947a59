"""Spare PCI devices of the engine's host: whether they fit for guests, and whether host or guest has them.

A guest gets a device by way of the driver vfio-pci (the kernel's documentation, "VFIO"). libvirt binds the device to
that driver and restores it by itself (``managed='yes'``), or leaves both to others (``managed='no'``): here, to
:class:`PciPool`.
"""

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, HarnessError, Unsupported
from conformance.host import vfio
from conformance.host.change import forget
from conformance.media.probe import DISK_LENGTH, DISK_OFFSET

ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
"""Domain, bus, slot and function, as in /sys/bus/pci/devices."""

Kind = Literal["card", "disk"]

KINDS: dict[str, Kind] = {"pci:v00001AF4*bc02sc00i*": "card", "pci:*bc01sc06i01": "disk"}
"""What the probe has drivers for, by modalias (vendor, class): VirtIO network cards, and disk controllers by AHCI."""

NO_IOMMU = "enable it in the firmware (VT-d, AMD-Vi), and boot an Intel machine's kernel with intel_iommu=on"

REMEDY = "name another one with --pci-device"

LOOK = r"""
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
for group in /sys/kernel/iommu_groups/*; do [ ! -e "$group" ] || { echo iommu; break; }; done
for address in "$@"; do
    at=/sys/bus/pci/devices/$address
    [ -e "$at" ] || continue
    echo "$address modalias $(cat "$at/modalias")"
    for name in driver iommu_group; do
        [ ! -e "$at/$name" ] || echo "$address $name $(basename "$(readlink "$at/$name")")"
    done
    for other in "$at"/iommu_group/devices/*; do
        case ${other##*/}:$(cat "$other/class") in
            "$address":* | *:0x06*) ;;
            *) echo "$address beside ${other##*/}" ;;
        esac
    done
    for link in /sys/class/net/*; do
        case $(readlink "$link"):$(($(cat "$link/flags") & 1)) in
            */"$address"/*:1) echo "$address up ${link##*/}" ;;
        esac
    done
    for disk in /sys/block/*; do
        case $(readlink "$disk") in */"$address"/*) echo "$address disk ${disk##*/}" ;; esac
    done
done
true
"""
"""Run in the host's network, with addresses: only there its links are seen. A bridge, of class 06, stays the host's."""

CLAIM = """
for disk in "$@"; do
    perl -MFcntl -e 'sysopen(my $disk, $ARGV[0], O_RDONLY | O_EXCL) or print "$ARGV[0]: $!"' "$disk"
done
"""
"""Opens a disk exclusively (open(2)): the kernel refuses that for a disk that is mounted, also in part."""

WHOSE = r"""
tries=300
while at=$(readlink "/sys/bus/pci/devices/$1/driver"); [ "${at##*/}" != "$2" ] && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
done
echo "${at##*/}"
"""

APPEARED = r"""
tries=300
while [ "$tries" -gt 0 ]; do
    for disk in /sys/block/*; do
        case $(readlink "$disk") in */"$1"/*) echo "${disk##*/}"; exit ;; esac
    done
    tries=$((tries - 1))
    sleep 0.1
done
"""


@dataclass(frozen=True)
class Device:
    """A PCI device that a guest can use.

    Attributes:
        address: in the host.
        kind: a network card, or a disk controller.
        driver: which the host itself has for it.
        group: number of its IOMMU group, in which it is alone.
    """

    address: str
    kind: Kind
    driver: str
    group: str


class PciPool:
    """The spare devices of an engine's host.

    Args:
        shell: on the host, with perl and chroot.
        addresses: of the devices that the user named.
    """

    def __init__(self, shell: HostShell, addresses: Sequence[str]) -> None:
        self._shell = shell
        self._addresses = addresses
        self._bound: list[Device] = []
        self._remembered: dict[Device, str] = {}  # and by which volume

    @property
    def devices(self) -> list[Device]:
        """Return the devices.

        Raises:
            Unsupported: the host has no IOMMU, or no device was named.
            HarnessError: a named device is unfit for guests.
            EngineError: the engine refused.
        """
        looked = self._looked
        if "iommu" not in looked:
            raise Unsupported(f"the host has no IOMMU: {NO_IOMMU}")
        if not self._addresses:
            raise Unsupported("no spare PCI device: name one with --pci-device ADDRESS")
        return [_device(address, looked) for address in self._addresses]

    def device(self, kind: Kind) -> Device:
        """Return the device of a kind, for a guest; raises as :attr:`devices`, and Unsupported where none was named.

        The engine remembers it from now on: libvirt, too, can be killed before it gives a device back.
        """
        found = next((device for device in self.devices if device.kind == kind), None)
        if found is None:
            raise Unsupported(
                f"no spare {'network card' if kind == 'card' else 'disk controller'}:"
                " name one with --pci-device ADDRESS"
            )
        self._remember(found)
        return found

    @functools.cached_property
    def _looked(self) -> list[str]:
        lines = vfio.run(self._shell, LOOK, *self._addresses, network_mode="host").splitlines()
        disks = [f"/dev/{line.split()[2]}" for line in lines if " disk " in line]
        used = vfio.run(self._shell, CLAIM, *disks, devices=[f"{disk}:{disk}:r" for disk in disks]) if disks else ""
        if used:
            raise HarnessError(f"a disk behind a spare PCI device is in use: {used}", REMEDY)
        return lines

    # ------------------------------------------------------------------------------------ who has them

    def bind(self) -> tuple[str, ...]:
        """Bind the devices to vfio-pci, and return the device nodes through which programs use them.

        Raises:
            Unsupported: as :attr:`devices`, or the host refuses.
            HarnessError: as :attr:`devices`.
        """
        devices = self.devices
        for device in devices:
            if device not in self._bound:
                self._remember(device)
                self._bound.append(device)
                try:
                    self._bind(device)
                except vfio.NotGrantedError:  # so nothing was changed
                    self._bound.remove(device)
                    self._forget(device)
                    raise
        return tuple(f"/dev/vfio/{device.group}" for device in devices)

    def restore(self) -> None:
        """Bind the devices to the host's own drivers; raises EngineError where a driver does not take one."""
        while self._bound:
            device = self._bound.pop()
            self._restore(device)
            self._forget(device)

    @contextlib.contextmanager
    def on_host(self, device: Device) -> Iterator[str]:
        """Wait until the host has a device again, and yield the name of its driver.

        libvirt restores devices that it has bound. Devices that :meth:`bind` has bound are restored for the length of
        the block.
        """
        ours = device in self._bound
        if ours:
            self._restore(device)
        try:
            yield vfio.run(self._shell, WHOSE, device.address, device.driver)
        finally:
            if ours:
                self._bind(device)

    def holds(self, device: Device, written: bytes) -> bool:
        """Return whether the disk behind a controller holds a pattern at the place where guests write theirs.

        Raises:
            EngineError: it could not be read.
        """
        disk = vfio.run(self._shell, APPEARED, device.address)
        if not disk:
            raise EngineError(f"the host finds no disk behind {device.address}", "see its kernel log (dmesg)")
        block = 1 << 16
        place = f"bs={block} skip={DISK_OFFSET // block} count={DISK_LENGTH // block} iflag=direct status=none"
        device_rule = f"/dev/{disk}:/dev/{disk}:r"
        digest = vfio.run(self._shell, f"dd if=/dev/{disk} {place} | sha256sum", devices=[device_rule])
        return digest.partition(" ")[0] == hashlib.sha256(written).hexdigest()

    def _bind(self, device: Device) -> None:
        vfio.bind(self._shell, self._state(device))

    def _restore(self, device: Device) -> None:
        vfio.restore(self._shell, self._state(device))

    def _remember(self, device: Device) -> None:
        if device not in self._remembered:
            self._remembered[device] = vfio.CHANGE.remember(self._shell, self._state(device))

    def _forget(self, device: Device) -> None:
        forget(self._shell.client, self._remembered.pop(device))

    def _state(self, device: Device) -> str:
        boot = next((line.split()[1] for line in self._looked if line.startswith("boot ")), "")
        return vfio.state(device.address, device.driver, boot)


def address(word: str) -> str:
    """Return a device's whole address; the domain may be left out, as lspci does.

    Raises:
        ValueError: it is none.
    """
    whole = word.lower() if word.count(":") == 2 else f"0000:{word.lower()}"
    if not ADDRESS.fullmatch(whole):
        raise ValueError(f"{word!r} is not the address of a PCI device, such as 0000:00:04.0")
    return whole


def _device(address: str, looked: Sequence[str]) -> Device:
    """Read the output of :data:`LOOK` for a device.

    Raises:
        HarnessError: the device is unfit for guests.
    """
    facts: dict[str, str] = {}
    for line in looked:
        where, _, rest = line.partition(" ")
        if where == address:
            key, _, value = rest.partition(" ")
            facts[key] = value
    alias = facts.get("modalias", "")
    kind = next((kind for pattern, kind in KINDS.items() if fnmatchcase(alias, pattern)), None)
    objections = {
        "the host has no device at this address": not alias,
        f"the probe has no driver for {alias}": not kind,
        "it is in no IOMMU group": "iommu_group" not in facts,
        f"it shares its IOMMU group with {facts.get('beside')}": "beside" in facts,
        f"its link {facts.get('up')} is up, and so in use": "up" in facts,
        "the host has no driver for it, or has bound it to vfio-pci": facts.get("driver", vfio.DRIVER) == vfio.DRIVER,
    }
    why = next((why for why, holds in objections.items() if holds), "")
    if why or not kind:
        raise HarnessError(f"the PCI device {address} cannot be passed to a guest: {why}", REMEDY)
    return Device(address, kind, facts["driver"], facts["iommu_group"])
