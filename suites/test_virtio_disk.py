"""VirtIO disks."""

import libvirt
import pytest

from conformance.guests.factory import DISK_BYTES, Guests
from conformance.media.probe import DISK_OFFSET, disk_pattern
from conformance.plugin.fixtures import Boot, Live

pytestmark = pytest.mark.virtio_disk


@pytest.mark.essential
def test_the_guest_drives_its_disk_by_virtio(boot: Boot) -> None:
    disk = boot("disk").report["disk"]

    assert disk["driver"] == "virtio_blk"
    assert disk["bytes"] == DISK_BYTES


@pytest.mark.essential
def test_what_the_guest_wrote_is_in_the_volume(boot: Boot, guests: Guests) -> None:
    guest = boot("disk")
    written = disk_pattern(guest.nonce)

    assert guest.report["disk"]["flushed"] is True
    assert guests.read_disk(guest, DISK_OFFSET, len(written)) == written


def test_what_one_guest_wrote_another_reads(boot: Boot, running: Live) -> None:
    writer = boot("disk")
    reader = running("disk")

    with reader.plugged(writer.shape.disk):
        seen = reader.ask("disk", device="vdb", disk="verify", of=writer.nonce)

    assert seen["read"] == writer.report["disk"]["written"]


def test_a_disk_is_plugged_in_and_out_while_the_guest_runs(running: Live, guests: Guests) -> None:
    guest = running("disk")

    with guest.plugged(guests.new_disk()):
        assert guest.ask("disk", device="vdb")["driver"] == "virtio_blk"
    guest.ask("unplugged", device="vdb")


def test_the_guest_sees_its_disk_grow(running: Live) -> None:
    guest = running("disk")
    grown = guest.ask("size", device="vda")["bytes"] + DISK_BYTES

    guest.domain.blockResize("vda", grown, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    assert guest.ask("size", device="vda")["bytes"] == grown


def test_what_the_guest_discards_is_given_back(running: Live, guests: Guests) -> None:
    guest = running("disk")
    guest.ask("disk", device="vda")
    before = guests.allocation(guest.guest)

    guest.ask("discard", device="vda")

    assert guests.allocation(guest.guest) < before


@pytest.mark.ends("guest")
def test_a_flushed_write_survives_a_killed_qemu(running: Live, guests: Guests) -> None:
    guest = running("disk")
    assert guest.ask("disk", of="flushed")["flushed"] is True

    guest.kill()

    written = disk_pattern("flushed")
    assert guests.read_disk(guest.guest, DISK_OFFSET, len(written)) == written
