"""Devices that are plugged into and out of a running guest."""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import libvirt

from conformance.guests import domain_xml
from conformance.guests.probe_client import ANSWER_SECONDS
from conformance.guests.running import RunningGuest


@contextlib.contextmanager
def disk(guest: RunningGuest, volume: str) -> Iterator[None]:
    """Plug in a volume as disk vdb, and out at the end.

    Raises:
        libvirt.libvirtError: the daemon refused.
        GuestFailure: the guest did not release it.
    """
    with _plugged(guest, domain_xml.disk(guest.spec.pool, volume, "vdb"), "vdb"):
        yield


@contextlib.contextmanager
def network_card(guest: RunningGuest, network: "libvirt.virNetwork") -> Iterator[None]:
    """Plug in a second network card that is on a network, and out at the end.

    Raises:
        libvirt.libvirtError: the daemon refused.
        GuestFailure: the guest did not release it.
    """
    mac = domain_xml.new_mac()
    with _plugged(guest, domain_xml.network_card("network", mac, network=network.name()), mac):
        yield


def insert_medium(guest: RunningGuest, volume: str) -> None:
    """Put a volume into the CD-ROM drive, in place of the one in it.

    Raises:
        libvirt.libvirtError: the daemon refused.
    """
    drive = ET.tostring(domain_xml.cdrom(guest.spec.pool, volume), encoding="unicode")
    guest.domain.updateDeviceFlags(drive, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def eject_medium(guest: RunningGuest) -> None:
    """Take the medium out of the CD-ROM drive; raises libvirt.libvirtError where the daemon refuses."""
    insert_medium(guest, "")


@contextlib.contextmanager
def _plugged(guest: RunningGuest, device: ET.Element, sign: str) -> Iterator[None]:
    """Plug in a device; ``sign`` occurs in a definition that has it."""
    session = guest.session
    xml = ET.tostring(device, encoding="unicode")
    session.domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    try:
        yield
    finally:
        if guest.alive:
            # libvirt returns before the guest has released it.
            session.domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    trouble = session.wait(f"to release {sign}", lambda: f"'{sign}'" not in session.domain.XMLDesc(), ANSWER_SECONDS)
    if trouble:
        raise session.failure(trouble)
