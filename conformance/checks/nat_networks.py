"""NAT networks beside the default one."""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Container, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

import libvirt

from conformance.util.wait import DeadlineExpired, wait_for

LEASE_LIFETIME_SECONDS = 3600
"""Of a lease whose network states none (dnsmasq's manual, --dhcp-range: "the default lease time is one hour")."""

LEASE_SECONDS = 20
"""For libvirt to note a lease: dnsmasq answers the guest, and then runs libvirt's helper, which writes it down."""

SUBNETS = tuple(f"192.168.{number}" for number in range(123, 133))
"""Where a second network may be, in this order: the default network has 192.168.122."""

TAKEN = "Network is already in use by interface"
"""libvirt's words where another interface of its host is on a network's subnet (networkCheckRouteCollision)."""


def nat(name: str, subnet: str) -> str:
    """Define a NAT network.

    Args:
        name: what libvirt calls it.
        subnet: the first three numbers of its addresses; the last one of the gateway is 1.
    """
    return (
        f"<network><name>{name}</name><forward mode='nat'/><ip address='{subnet}.1' netmask='255.255.255.0'>"
        f"<dhcp><range start='{subnet}.2' end='{subnet}.254'/></dhcp></ip></network>"
    )


@dataclass(frozen=True)
class Addresses:
    """The addresses of a network, as it is defined.

    Attributes:
        gateway: the host's own.
        prefix: the length of the network's part of an address.
        leased: the addresses that its DHCP server leases.
    """

    gateway: str
    prefix: int
    leased: Container[IPv4Address]


def addresses(network: "libvirt.virNetwork") -> Addresses:
    """Return the IPv4 addresses of a network that leases some.

    Raises:
        ValueError: it leases none.
    """
    own = ET.fromstring(network.XMLDesc()).find("ip[dhcp]")  # noqa: S314  - libvirt's own words
    dhcp = own.find("dhcp/range") if own is not None else None
    if own is None or dhcp is None:
        raise ValueError(f"network {network.name()} leases no addresses")
    first, last = IPv4Address(dhcp.attrib["start"]), IPv4Address(dhcp.attrib["end"])
    leased = frozenset(map(IPv4Address, range(int(first), int(last) + 1)))
    interface = IPv4Interface(f"{own.attrib['address']}/{own.get('netmask') or own.get('prefix')}")
    return Addresses(str(interface.ip), interface.network.prefixlen, leased)


def subnet(network: "libvirt.virNetwork") -> str:
    """Return the first three numbers of a network's addresses, as it is defined.

    Raises:
        ValueError: it has no address.
    """
    gateway = ET.fromstring(network.XMLDesc()).find("ip[@address]")  # noqa: S314  - libvirt's own words
    if gateway is None:
        raise ValueError(f"network {network.name()} has no address")
    return gateway.attrib["address"].rpartition(".")[0]


@contextlib.contextmanager
def second(connection: "libvirt.virConnect") -> Iterator["libvirt.virNetwork"]:
    """Have a persistent NAT network, on the first subnet that is free on the daemon's host, for as long as this lasts.

    Raises:
        libvirt.libvirtError: none can be started; the daemon's own words.
    """
    network = _started(connection)
    try:
        yield network
    finally:
        for end in (network.destroy, network.undefine):
            with contextlib.suppress(libvirt.libvirtError):
                end()


def knows_lease(network: "libvirt.virNetwork", address: str) -> bool:
    """Say whether libvirt knows of a lease of a network, at the latest :data:`LEASE_SECONDS` after the guest does."""
    try:
        return wait_for(
            f"libvirt to know the lease of {address}",
            lambda: address in [lease["ipaddr"] for lease in network.DHCPLeases()],
            seconds=LEASE_SECONDS,
        )
    except DeadlineExpired:
        return False


def _started(connection: "libvirt.virConnect") -> "libvirt.virNetwork":
    for subnet in SUBNETS:
        network = connection.networkDefineXML(nat("second", subnet))
        try:
            network.create()
        except libvirt.libvirtError as error:
            network.undefine()
            if TAKEN not in str(error) or subnet == SUBNETS[-1]:
                raise
        else:
            return network
    raise AssertionError("unreachable: the last subnet raises")
