"""Installing Debian."""

from typing import Any

import pytest

from conformance.container.container import Container
from conformance.guests.devices import Firmware
from conformance.guests.install_watch import INSTALL_SECONDS, START_SECONDS
from conformance.guests.peer_network import PeerNetwork
from conformance.guests.request import Installation
from conformance.plugin.fixtures import Install

pytestmark = [
    pytest.mark.install_debian,
    pytest.mark.install,
    pytest.mark.timeout(INSTALL_SECONDS + 3 * START_SECONDS),
]


@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_debian_is_installed_and_starts_from_its_disk(
    install: Install,
    debian: Installation,
    firmware: Firmware,
    container: Container,
    peer_network: PeerNetwork,
    evidence: dict[str, Any],
) -> None:
    evidence |= {"medium": debian.medium.parent.name, **debian.orders}

    with install(debian, firmware=firmware) as machine:
        machine.until("end", "installing", INSTALL_SECONDS)
        machine.until("ready", "first start from the disk", START_SECONDS)
        guest = machine.shut_down()

    system = guest.report["system"]
    assert system["state"] == "running"
    assert system["firmware"] == firmware
    assert system["root"].startswith("/dev/vda")
    assert system["driver"] == "virtio_blk"

    assert guest.report["link"]["driver"] == "virtio_net"
    assert guest.report["link"]["mac"] == guest.mac
    assert guest.report["lease"]["address"] in [lease["ipaddr"] for lease in guest.leases]
    reply = guest.report["exchange"].json("reply")
    assert reply["query"] == guest.nonce
    assert reply["client"] == peer_network.source(container)
