"""The devices that a suite can need on a guest, each registered once.

Everything else is derived from this register: the names that suites may use, the orders to the probe, the blame for a
failed step, the boots that are shared, and, for a device that needs no volume, link or network of the container, its
element in the domain definition.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Firmware = Literal["bios", "efi", "secure-boot"]
"""``secure-boot`` is UEFI that enforces Secure Boot, with the keys that machines are sold with."""

DeviceName = Literal["iso", "disk", "snapshots", "network", "macvtap", "tpm", "drive"]
"""The keys of :data:`DEVICES`."""


@dataclass(frozen=True)
class GuestDevice:
    """A device that a suite can need on a guest.

    Attributes:
        topics: the probe's topics about it, separated by commas (see fixtures/isos/probe/README.md); the guest reports
            on them when it boots. Empty for a device that only running guests are queried about.
        steps: the probe's steps that these topics consist of, where they are not the topics themselves.
        shared_by: firmware whose shared boot has this device: one boot then answers for several features.
        refusable: some modes refuse it, so that boots are shared without it as well.
        xml: its element under ``<devices>``; empty if it is written from fields of the guest's specification.
    """

    topics: str = ""
    steps: tuple[str, ...] = ()
    shared_by: tuple[Firmware, ...] = ()
    refusable: bool = False
    xml: str = ""


DEVICES: Mapping[DeviceName, GuestDevice] = {
    "iso": GuestDevice(topics="cdrom", shared_by=("bios", "efi", "secure-boot")),
    "disk": GuestDevice(topics="disk", shared_by=("bios",)),
    "network": GuestDevice(
        topics="net", steps=("link", "lease", "ping", "dns", "exchange"), shared_by=("bios",), refusable=True
    ),
    "macvtap": GuestDevice(topics="link,lease,exchange"),
    "tpm": GuestDevice(
        topics="tpm",
        shared_by=("efi",),
        xml="<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    ),
    "snapshots": GuestDevice(),  # a disk that can keep them
    "drive": GuestDevice(),  # an empty CD-ROM drive
}

SHARED_GUESTS: tuple[frozenset[DeviceName], ...] = (
    frozenset({"disk", "network", "drive"}),
    frozenset({"snapshots", "network"}),
)
"""The devices of the guests that stay and serve several checks; libvirt takes no snapshot with memory while one disk's
format cannot hold it."""


def topics(names: Iterable[DeviceName]) -> str:
    """Return the probe's topics about devices, in the form of its ``ask`` order."""
    return ",".join(sorted({DEVICES[name].topics for name in names} - {""}))


def steps(name: DeviceName) -> tuple[str, ...]:
    """Return the probe's steps whose failure is a failure of a device."""
    device = DEVICES[name]
    return device.steps or tuple(device.topics.split(","))


BootKind = tuple[Firmware, frozenset[DeviceName]]
"""The firmware of a boot, and the devices that its guest has and reports on."""

Sharing = Mapping[Firmware, tuple[BootKind, ...]]
"""By the firmware that is needed: the boots that may answer; the first one with the devices that are needed does."""


def _shared_by(firmware: Firmware) -> frozenset[DeviceName]:
    return frozenset(name for name, device in DEVICES.items() if firmware in device.shared_by)


ONE_BOOT_EACH: Sharing = {
    "bios": (("bios", _shared_by("bios")),),
    "efi": (("efi", _shared_by("efi")),),
    "secure-boot": (("secure-boot", _shared_by("secure-boot")),),
}
"""One shared boot for each firmware."""

_ALL = frozenset(name for name, device in DEVICES.items() if device.shared_by)
_ALL_BOOTS: tuple[BootKind, ...] = (
    ("secure-boot", _ALL),
    ("secure-boot", frozenset(name for name in _ALL if not DEVICES[name].refusable)),
)
ONE_BOOT_FOR_ALL: Sharing = {"bios": _ALL_BOOTS, "efi": _ALL_BOOTS, "secure-boot": _ALL_BOOTS}
"""The fewest boots: Secure Boot is UEFI, and a check that needs no particular firmware accepts any."""
