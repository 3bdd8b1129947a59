"""VirtIO network cards."""

from ipaddress import ip_address

import libvirt
import pytest

from conformance.checks import nat_networks
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


def test_the_lease_is_as_its_network_defines_it(boot: Boot, connection: libvirt.virConnect) -> None:
    lease = boot("network").report["lease"]
    network = nat_networks.addresses(connection.networkLookupByName("default"))

    assert ip_address(lease["address"]) in network.leased
    assert lease["prefix"] == network.prefix
    assert [lease["router"]] == [lease["server"]] == lease["dns"] == [network.gateway]
    assert lease["seconds"] == nat_networks.LEASE_LIFETIME_SECONDS
