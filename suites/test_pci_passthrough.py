"""PCI passthrough: a guest drives a device of its host, and the host drives it again afterwards."""

from typing import Any

import pytest

from conformance.guests.request import with_pci_device
from conformance.host.pci import PciPool
from conformance.media.probe import disk_pattern
from conformance.plugin.fixtures import StartGuest

pytestmark = pytest.mark.pci_passthrough


def test_a_guest_talks_over_a_network_card_of_its_host(
    pci_pool: PciPool, start_guest: StartGuest, evidence: dict[str, Any]
) -> None:
    card = pci_pool.device("card")

    with start_guest(with_pci_device(card)) as guest:
        report = guest.report
        assert report["link"]["pci_driver"] == "virtio-pci"
        assert guest.reaches(report["lease"]["server"])

    with pci_pool.on_host(card) as driver:
        evidence["afterwards driven by"] = driver
        assert driver == card.driver


def test_what_a_guest_writes_is_on_the_disk_of_its_hosts_controller(
    pci_pool: PciPool, start_guest: StartGuest, evidence: dict[str, Any]
) -> None:
    controller = pci_pool.device("disk")

    with start_guest(with_pci_device(controller)) as guest:
        disk = guest.report["disk"]
        assert disk["pci_driver"] == "ahci"
        assert disk["read"] == disk["written"]

    with pci_pool.on_host(controller) as driver:
        evidence["afterwards driven by"] = driver
        assert driver == controller.driver
        assert pci_pool.holds(controller, disk_pattern(guest.observed.nonce))


def test_a_crashed_guests_device_is_its_hosts_again(
    pci_pool: PciPool, start_guest: StartGuest, evidence: dict[str, Any]
) -> None:
    controller = pci_pool.device("disk")

    with start_guest(with_pci_device(controller)) as guest:
        assert guest.report["disk"]["flushed"] is True
        guest.kill()

    with pci_pool.on_host(controller) as driver:
        evidence["afterwards driven by"] = driver
        assert driver == controller.driver
        assert pci_pool.holds(controller, disk_pattern(guest.observed.nonce))
