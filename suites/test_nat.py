"""libvirt's NAT networking."""

from typing import Any

import pytest

from conformance import host_network
from conformance.beyond import Beyond
from conformance.container import Container
from conformance.plugin import Boot
from conformance.run import Run

pytestmark = pytest.mark.nat


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


@pytest.mark.host_network
def test_the_host_is_afterwards_what_it_was_before(
    boot: Boot, container: Container, run: Run, host_before: frozenset[str], evidence: dict[str, Any]
) -> None:
    boot("network")

    container.stop()

    after = host_network.snapshot(run.engine.client, run.image.id, run.id)
    evidence |= {"added": sorted(after - host_before), "removed": sorted(host_before - after)}
    assert after == host_before
