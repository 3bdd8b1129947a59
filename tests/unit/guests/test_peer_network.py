"""The server beyond the container."""

import ipaddress

import pytest

from conformance.guests import peer_network
from conformance.media.probe import PEER_COMMAND
from conformance.model import mode
from conformance.model.contract import Contract


@pytest.mark.parametrize(
    ("subnet", "first", "last"),
    [("172.18.0.0/16", "172.18.255.154", "172.18.255.254"), ("192.168.0.0/24", "192.168.0.154", "192.168.0.254")],
)
def test_the_last_addresses_of_the_network_are_leased(subnet: str, first: str, last: str) -> None:
    script = peer_network.serving(ipaddress.IPv4Network(subnet))
    assert f"start {first}\nend {last}\n" in script
    assert script.endswith("exec " + " ".join(PEER_COMMAND))


def test_the_link_to_it_is_the_containers_own_or_the_hosts_bridge(contract: Contract) -> None:
    nobody = None
    server = peer_network.PeerNetwork(nobody, nobody, "run")  # type: ignore[arg-type]
    server._network_id = "0123456789abcdef"
    assert server.link(mode.from_contract(contract, "unprivileged-macvtap")) == "eth0"
    assert server.link(mode.from_contract(contract, "unprivileged-macvtap-hostnet")) == "br-0123456789ab"
