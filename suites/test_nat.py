"""libvirt's NAT networking."""

from typing import Any

import libvirt
import pytest

from conformance.checks import nat_networks
from conformance.container.container import Container
from conformance.guests import hot_plug
from conformance.guests.factory import require_started
from conformance.guests.peer_network import PeerNetwork
from conformance.host import network as host_network
from conformance.plugin.fixtures import Boot, RunningGuests
from conformance.run.context import Run

pytestmark = pytest.mark.nat

TEN_MIB = 10 * 2**20


@pytest.mark.essential
def test_the_gateway_answers(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["ping"]["gateway"] == guest.report["lease"]["router"]
    assert guest.report["ping"]["received"] > 0


def test_the_networks_dns_server_knows_the_guest(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["dns"]["server"] == guest.report["lease"]["router"]
    assert guest.report["lease"]["address"] in guest.report["dns"]["answers"]
    assert guest.report["dns"]["reverse"] == guest.report["dns"]["name"]


@pytest.mark.own_network
def test_the_networks_dns_server_knows_what_the_container_knows(
    running: RunningGuests, peer_network: PeerNetwork
) -> None:
    """On the run's own network, the engine's DNS server knows the names of containers (Docker, "Embedded DNS")."""
    guest = running("network")

    assert guest.probe.ask("dns", name=peer_network.name)["answers"] == [peer_network.address]


@pytest.mark.essential
def test_a_server_beyond_sees_the_container_and_not_the_guest(
    boot: Boot, container: Container, peer_network: PeerNetwork, evidence: dict[str, Any]
) -> None:
    guest = boot("network")
    reply = guest.report["exchange"].json("reply")
    evidence["reply"] = reply

    assert reply["query"] == guest.nonce
    assert reply["client"] == peer_network.source(container)


def test_icmp_and_udp_reach_a_server_beyond_and_its_answers_come_back(
    running: RunningGuests, peer_network: PeerNetwork
) -> None:
    """Each protocol has a rule of its own in libvirt's NAT; without one, the server's answers get lost."""
    guest = running("network")
    trace = guest.probe.ask("trace", target=peer_network.address)

    assert guest.reaches(peer_network.address)
    assert trace["hops"][0] == guest.report["lease"]["router"]
    assert trace["hops"][-1] == peer_network.address


def test_ten_mebibytes_arrive_whole_in_each_direction(running: RunningGuests, peer_network: PeerNetwork) -> None:
    guest = running("network")

    received = guest.probe.ask("fetch", url=f"http://{peer_network.server}/cgi-bin/blob")
    sent = guest.probe.ask("send", url=f"http://{peer_network.server}/cgi-bin/receive")

    assert received["bytes"] == sent["bytes"] == TEN_MIB
    assert received["sha256"] == sent["sha256"] == sent.json("reply")["sha256"]


def test_guests_reach_each_other_and_nothing_outside_reaches_a_guest(
    running: RunningGuests, peer_network: PeerNetwork, container: Container
) -> None:
    server = running("network")
    neighbour = running("network", beside=server)
    offered = server.probe.ask("serve")
    address = server.report["lease"]["address"]

    assert neighbour.probe.ask("fetch", url=f"http://{address}/pattern")["sha256"] == offered["sha256"]
    assert not peer_network.reaches(f"http://{address}/pattern", by_way_of=container.address or peer_network.gateway)


def test_a_command_in_the_container_reaches_a_port_of_a_guest(running: RunningGuests, container: Container) -> None:
    """By bash's own TCP, over which docs/connect.md leads SSH into a guest."""
    guest = running("network")
    port = guest.probe.ask("serve")["port"]

    relay = (
        f"exec 3<>/dev/tcp/{guest.report['lease']['address']}/{port}; printf 'GET /pattern HTTP/1.0\\r\\n\\r\\n' >&3"
    )

    assert container.run("bash", "-c", f"{relay}; head --lines=1 <&3").text.startswith("HTTP/1.")


def test_a_second_network_stands_beside_the_first(
    running: RunningGuests, container: Container, peer_network: PeerNetwork, evidence: dict[str, Any]
) -> None:
    guest = running("network")

    with nat_networks.second(container.connection) as network, hot_plug.network_card(guest, network):
        guest.probe.ask("link", interface="eth1")
        lease = guest.probe.ask("lease", interface="eth1")
        exchange = guest.probe.ask("exchange", interface="eth1")
        evidence |= {"lease": lease.facts, "exchange": exchange.facts}

        assert nat_networks.knows_lease(network, lease["address"])
        assert exchange["by"] == "eth1"
        assert exchange.json("reply")["client"] == (container.address or peer_network.gateway)
        assert guest.probe.ask("ping")["received"] > 0


def test_guests_of_two_networks_do_not_reach_each_other(
    running: RunningGuests, container: Container, evidence: dict[str, Any]
) -> None:
    guest = running("network")
    other = running("network", beside=guest)

    with nat_networks.second(container.connection) as network, hot_plug.network_card(other, network):
        other.probe.ask("link", interface="eth1")
        lease = other.probe.ask("lease", interface="eth1")
        evidence["lease"] = lease.facts

        assert other.reaches(lease["router"])
        assert not guest.reaches(lease["address"])


def test_a_subnet_that_is_taken_is_refused(container: Container) -> None:
    default = container.connection.networkLookupByName("default")
    require_started(default)

    with pytest.raises(libvirt.libvirtError, match=nat_networks.TAKEN):
        container.connection.networkCreateXML(nat_networks.nat("colliding", nat_networks.subnet(default)))


def test_after_a_restart_of_its_network_a_guest_is_plugged_in_again(
    running: RunningGuests, container: Container, evidence: dict[str, Any]
) -> None:
    """A network that starts makes a new bridge, and libvirt leaves a running guest off it until it is plugged in anew.

    So says libvirt's commit "network: reconnect tap devices during networkNotifyActualDevice", which does it for them
    when the daemon starts. Measured with 11.3: neither an update of the card nor of its link does.
    """
    guest = running("network")

    with nat_networks.second(container.connection) as network:
        with hot_plug.network_card(guest, network):
            guest.probe.ask("link", interface="eth1")
            evidence["before"] = guest.probe.ask("lease", interface="eth1").facts
            network.destroy()
            network.create()

        with hot_plug.network_card(guest, network):
            guest.probe.ask("link", interface="eth1")
            after = guest.probe.ask("lease", interface="eth1")
            evidence["after"] = after.facts

            assert nat_networks.knows_lease(network, after["address"])
            assert guest.probe.ask("ping", interface="eth1")["gateway"] == evidence["before"]["router"]


@pytest.mark.host_network
@pytest.mark.ends("container")
def test_the_host_is_afterwards_what_it_was_before(
    boot: Boot, container: Container, run: Run, host_before: frozenset[str], evidence: dict[str, Any]
) -> None:
    boot("network")

    container.stop()

    after = host_network.snapshot(run.shell)
    evidence |= {"added": sorted(after - host_before), "removed": sorted(host_before - after)}
    assert after == host_before
