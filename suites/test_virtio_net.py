"""VirtIO network cards."""

import pytest

from conformance.plugin.fixtures import Boot

pytestmark = pytest.mark.virtio_net


@pytest.mark.essential
def test_the_guest_drives_its_card_by_virtio(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["link"]["driver"] == "virtio_net"
    assert guest.report["link"]["mac"] == guest.mac


@pytest.mark.essential
def test_guest_and_libvirt_agree_on_the_lease(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["lease"]["address"] in [lease["ipaddr"] for lease in guest.leases]
