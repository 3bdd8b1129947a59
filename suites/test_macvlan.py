"""Macvlan networking (macvtap for a guest): the guest is on its host's own network."""

from typing import Any

import pytest

from conformance.checks import macvtap_devices
from conformance.container.container import Container
from conformance.guests.factory import Guests
from conformance.guests.peer_network import PeerNetwork
from conformance.guests.request import on_macvtap
from conformance.guests.spec import MacvtapMode
from conformance.model.mode import Mode
from conformance.plugin.fixtures import Boot

pytestmark = pytest.mark.macvlan

REACHED: dict[MacvtapMode, dict[str, bool]] = {
    "bridge": {"a server beyond": True, "another guest": True, "its own host": False, "the guest, from beyond": True},
    "private": {"a server beyond": True, "another guest": False, "its own host": False, "the guest, from beyond": True},
    "vepa": {"a server beyond": True, "another guest": False, "its own host": False, "the guest, from beyond": True},
}
"""With ``vepa`` guests meet only over a switch that returns frames to the same port: a bridge never does."""


@pytest.mark.essential
def test_a_guest_talks_over_macvtap(boot: Boot, peer_network: PeerNetwork) -> None:
    guest = boot("macvtap")

    assert guest.report["link"]["driver"] == "virtio_net"
    assert guest.report["lease"]["server"] == peer_network.address
    assert guest.report["exchange"].json("reply")["client"] == guest.report["lease"]["address"]


@pytest.mark.host_network
@pytest.mark.macvtap_link
def test_a_guest_is_on_the_network_beyond_a_link_of_its_host(
    guests: Guests, macvtap_link: str, evidence: dict[str, Any]
) -> None:
    with guests.start(on_macvtap(link=macvtap_link)) as guest:
        lease = guest.report["lease"]
        evidence |= {"link": macvtap_link, "lease": lease.facts}
        assert guest.reaches(lease["server"])


@pytest.mark.parametrize("kind", REACHED)
def test_whom_a_guest_reaches_is_a_matter_of_its_interfaces_mode(
    guests: Guests, peer_network: PeerNetwork, container: Container, evidence: dict[str, Any], kind: MacvtapMode
) -> None:
    host = container.address or peer_network.gateway

    with guests.start_together(on_macvtap(mode=kind), on_macvtap(mode=kind)) as (guest, neighbour):
        evidence["reached"] = {
            "a server beyond": guest.reaches(peer_network.address),
            "another guest": guest.reaches(neighbour.address),
            "its own host": guest.reaches(host),
            "the guest, from beyond": peer_network.sees(guest.address),
        }
        # The addresses that must not be reached do exist: the server reaches them.
        assert peer_network.sees(neighbour.address)
        assert peer_network.sees(host)

    assert evidence["reached"] == REACHED[kind]


def test_a_links_node_belongs_to_qemus_user_and_goes_with_the_link(
    guests: Guests, container: Container, mode: Mode
) -> None:
    before = macvtap_devices.traces(container)
    # In the host's own /dev the host creates the node.
    owner = "root" if mode.hosts_devices else mode.image.user

    with guests.defined("macvtap") as domain:
        domain.start()
        assert macvtap_devices.owner(container, macvtap_devices.node(container, before)) == owner
        domain.end()

    assert not macvtap_devices.left(container, before)


def test_a_guest_restarted_twenty_times_leaves_no_link_and_no_node(guests: Guests, container: Container) -> None:
    before = macvtap_devices.traces(container)

    with guests.defined("macvtap") as domain:
        for _ in range(19):
            domain.start()
            domain.end()
        assert domain.boot().report["lease"]["address"]

    assert not macvtap_devices.left(container, before)


@pytest.mark.ends("container")
def test_a_killed_containers_guest_is_on_its_network_again(guests: Guests, container: Container) -> None:
    with guests.defined("macvtap") as domain:
        domain.start()

        container.kill()
        container.revive()

        assert domain.boot().report["lease"]["address"]
