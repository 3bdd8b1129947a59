"""VirtIO disks."""

import libvirt
import pytest

from conformance.guests import hot_plug
from conformance.guests.factory import Guests
from conformance.guests.storage import DISK_BYTES
from conformance.media.probe import DISK_OFFSET, disk_pattern
from conformance.plugin.fixtures import Boot, RunningGuests

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
    assert guests.pool.read(guest.spec.disk, DISK_OFFSET, len(written)) == written


def test_what_one_guest_wrote_another_reads(boot: Boot, running: RunningGuests) -> None:
    writer = boot("disk")
    reader = running("disk")

    with hot_plug.disk(reader, writer.spec.disk):
        seen = reader.probe.ask("disk", device="vdb", disk="verify", of=writer.nonce)

    assert seen["read"] == writer.report["disk"]["written"]


def test_a_disk_is_plugged_in_and_out_while_the_guest_runs(running: RunningGuests, guests: Guests) -> None:
    guest = running("disk")

    with hot_plug.disk(guest, guests.pool.new_disk()):
        assert guest.probe.ask("disk", device="vdb")["driver"] == "virtio_blk"
    guest.probe.ask("unplugged", device="vdb")


def test_the_guest_sees_its_disk_grow(running: RunningGuests) -> None:
    guest = running("disk")
    grown = guest.probe.ask("size", device="vda")["bytes"] + DISK_BYTES

    guest.domain.blockResize("vda", grown, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    assert guest.probe.ask("size", device="vda")["bytes"] == grown


def test_what_the_guest_discards_is_given_back(running: RunningGuests, guests: Guests) -> None:
    guest = running("disk")
    guest.probe.ask("disk", device="vda")
    before = guests.pool.allocation(guest.spec.disk)

    guest.probe.ask("discard", device="vda")

    assert guests.pool.allocation(guest.spec.disk) < before


@pytest.mark.ends("guest")
def test_a_flushed_write_survives_a_killed_qemu(running: RunningGuests, guests: Guests) -> None:
    guest = running("disk")
    assert guest.probe.ask("disk", of="flushed")["flushed"] is True

    guest.kill()

    written = disk_pattern("flushed")
    assert guests.pool.read(guest.spec.disk, DISK_OFFSET, len(written)) == written
