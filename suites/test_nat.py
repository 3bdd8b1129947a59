"""libvirt's NAT networking."""

from typing import Any

import pytest

from conformance import host_network
from conformance.beyond import Beyond
from conformance.container import Container
from conformance.guests import Guests
from conformance.plugin import Boot, Live
from conformance.run import Run

pytestmark = pytest.mark.nat

TEN_MIB = 10 * 2**20


def test_the_gateway_answers(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["ping"]["gateway"] == guest.report["lease"]["router"]
    assert guest.report["ping"]["received"] > 0


def test_the_networks_dns_server_knows_the_guest(boot: Boot) -> None:
    guest = boot("network")

    assert guest.report["dns"]["server"] == guest.report["lease"]["router"]
    assert guest.report["lease"]["address"] in guest.report["dns"]["answers"]


def test_a_server_beyond_sees_the_container_and_not_the_guest(
    boot: Boot, container: Container, beyond: Beyond, evidence: dict[str, Any]
) -> None:
    guest = boot("network")
    reply = guest.report["exchange"].json("reply")
    evidence["reply"] = reply

    assert reply["query"] == guest.nonce
    assert reply["client"] == (beyond.gateway if container.mode.host_network else container.address)


def test_ten_mebibytes_arrive_whole_in_each_direction(running: Live, beyond: Beyond) -> None:
    guest = running("network")

    received = guest.ask("fetch", url=f"http://{beyond.server}/cgi-bin/blob")
    sent = guest.ask("send", url=f"http://{beyond.server}/cgi-bin/receive")

    assert received["bytes"] == sent["bytes"] == TEN_MIB
    assert received["sha256"] == sent["sha256"] == sent.json("reply")["sha256"]


def test_guests_reach_each_other_and_nothing_outside_reaches_a_guest(
    running: Live, guests: Guests, beyond: Beyond, container: Container
) -> None:
    server = running("network")
    offered = server.ask("serve")
    address = server.guest.report["lease"]["address"]

    with guests.stay("network") as neighbour:
        assert neighbour.ask("fetch", url=f"http://{address}/pattern")["sha256"] == offered["sha256"]

    assert not beyond.reaches(f"http://{address}/pattern", by_way_of=container.address or beyond.gateway)


@pytest.mark.host_network
def test_the_host_is_afterwards_what_it_was_before(
    boot: Boot, container: Container, run: Run, host_before: frozenset[str], evidence: dict[str, Any]
) -> None:
    boot("network")

    container.stop()

    after = host_network.snapshot(run.engine.client, run.image.id, run.id)
    evidence |= {"added": sorted(after - host_before), "removed": sorted(host_before - after)}
    assert after == host_before
