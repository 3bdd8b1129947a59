"""Where a second network goes."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import libvirt
import pytest

from conformance.checks import nat_networks


class Network:
    """A network that is on a subnet; it does not start where somebody else is."""

    def __init__(self, host: "Host", xml: str) -> None:
        self.host, self.xml, self.active = host, xml, False

    def create(self) -> None:
        for subnet, refusal in self.host.refusals.items():
            if f"'{subnet}.1'" in self.xml:
                raise libvirt.libvirtError(refusal)
        self.active = True

    def destroy(self) -> None:
        self.active = False

    def undefine(self) -> None:
        self.host.networks.remove(self)


class Host:
    """A connection."""

    def __init__(self, refusals: dict[str, str]) -> None:
        self.refusals = refusals
        self.networks: list[Network] = []

    def networkDefineXML(self, xml: str) -> Network:  # noqa: N802
        self.networks.append(Network(self, xml))
        return self.networks[-1]


def test_it_is_on_the_first_free_subnet_and_gone_afterwards() -> None:
    host: Any = Host({nat_networks.SUBNETS[0]: f"internal error: {nat_networks.TAKEN} eth1"})
    with nat_networks.second(host) as network:
        assert network.active
        assert f"'{nat_networks.SUBNETS[1]}.1'" in network.xml
        assert host.networks == [network]
    assert not network.active
    assert not host.networks


@pytest.mark.parametrize(
    "refusals",
    [
        {nat_networks.SUBNETS[0]: "error creating bridge interface virbr1: Operation not permitted"},
        dict.fromkeys(nat_networks.SUBNETS, f"{nat_networks.TAKEN} eth1: Operation not permitted"),
    ],
)
def test_a_network_that_cannot_start_says_why_and_leaves_nothing(refusals: dict[str, str]) -> None:
    host: Any = Host(refusals)
    with pytest.raises(libvirt.libvirtError, match="not permitted"), nat_networks.second(host):
        pass
    assert not host.networks


class Leases:
    """A network whose daemon notes a lease a moment after the guest has it."""

    def __init__(self, *seen: list[str]) -> None:
        self.seen = list(seen)

    def DHCPLeases(self) -> list[dict[str, str]]:  # noqa: N802  - libvirt's name
        return [{"ipaddr": address} for address in (self.seen.pop(0) if len(self.seen) > 1 else self.seen[0])]


def test_a_lease_that_is_noted_late_is_known() -> None:
    assert nat_networks.knows_lease(Leases([], ["192.168.123.9", "192.168.123.7"]), "192.168.123.7")


def test_a_lease_that_is_never_noted_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nat_networks, "LEASE_SECONDS", 0.2)
    assert not nat_networks.knows_lease(Leases(["192.168.123.9"]), "192.168.123.7")


def test_a_subnet_is_read_from_the_definition() -> None:
    def defined(xml: str) -> Any:
        return type("Defined", (), {"XMLDesc": lambda _: xml, "name": lambda _: "odd"})()

    assert nat_networks.subnet(defined(nat_networks.nat("any", "10.77.0"))) == "10.77.0"
    with pytest.raises(ValueError, match="network odd has no address"):
        nat_networks.subnet(defined("<network><name>odd</name></network>"))


class Defined:
    """A network with a definition."""

    def __init__(self, addresses: str) -> None:
        self._addresses = addresses

    def XMLDesc(self) -> str:  # noqa: N802
        return f"<network><name>n</name>{self._addresses}</network>"

    def name(self) -> str:
        return "n"


@pytest.mark.parametrize("length", ["netmask='255.255.255.0'", "prefix='24'"])
def test_a_networks_addresses_are_those_of_its_definition(length: str) -> None:
    range_ = "<dhcp><range start='192.0.2.10' end='192.0.2.12'/></dhcp>"
    defined: Any = Defined(f"<ip family='ipv6' address='2001:db8::1'/><ip address='192.0.2.1' {length}>{range_}</ip>")

    found = nat_networks.addresses(defined)

    assert (found.gateway, found.prefix) == ("192.0.2.1", 24)
    assert [ip for ip in map(str, IPv4Network("192.0.2.0/24")) if IPv4Address(ip) in found.leased] == [
        "192.0.2.10",
        "192.0.2.11",
        "192.0.2.12",
    ]


def test_a_network_that_leases_nothing_is_an_error() -> None:
    defined: Any = Defined("<ip address='192.0.2.1' prefix='24'/>")
    with pytest.raises(ValueError, match="leases no addresses"):
        nat_networks.addresses(defined)
