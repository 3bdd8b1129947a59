"""VirtIO disks."""

import pytest

from conformance.guests import DISK_BYTES, Guests
from conformance.media import DISK_OFFSET, disk_pattern
from conformance.plugin import Boot

pytestmark = pytest.mark.virtio_disk


def test_the_guest_drives_its_disk_by_virtio(boot: Boot) -> None:
    disk = boot("disk").report["disk"]

    assert disk["driver"] == "virtio_blk"
    assert disk["bytes"] == DISK_BYTES


def test_what_the_guest_wrote_is_in_the_volume(boot: Boot, guests: Guests) -> None:
    guest = boot("disk")
    written = disk_pattern(guest.nonce)

    assert guest.report["disk"]["flushed"] is True
    assert guests.read_disk(guest, DISK_OFFSET, len(written)) == written
