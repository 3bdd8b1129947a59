"""The default NAT network and the default storage pool."""

import xml.etree.ElementTree as ET

import libvirt
import pytest

from conformance.container.container import Container
from conformance.guests.factory import require_started
from conformance.run.context import Run

pytestmark = pytest.mark.defaults


def test_the_default_network_does_nat_and_starts_by_itself(connection: libvirt.virConnect) -> None:
    network = connection.networkLookupByName("default")

    assert ET.fromstring(network.XMLDesc()).find("forward[@mode='nat']") is not None
    assert network.isPersistent()
    assert network.autostart()


@pytest.mark.essential
def test_the_default_network_is_started(connection: libvirt.virConnect) -> None:
    require_started(connection.networkLookupByName("default"))


@pytest.mark.essential
def test_the_default_pool_is_started_and_starts_by_itself(connection: libvirt.virConnect, run: Run) -> None:
    pool = connection.storagePoolLookupByName("default")

    assert ET.fromstring(pool.XMLDesc()).findtext("target/path") == run.contract.image.images
    assert pool.isPersistent()
    assert pool.autostart()
    assert pool.isActive()


@pytest.mark.ends("container")
def test_network_and_pool_are_the_same_objects_in_a_new_container(container: Container) -> None:
    def identities() -> tuple[str, str]:
        network = container.connection.networkLookupByName("default")
        pool = container.connection.storagePoolLookupByName("default")
        return network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE), pool.UUIDString()

    before = identities()

    container.renew()

    assert identities() == before


@pytest.mark.ends("container")
def test_a_changed_network_is_not_overwritten(container: Container) -> None:
    network = container.connection.networkLookupByName("default")
    definition = ET.fromstring(network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
    domain = definition.find("domain")
    if domain is None:
        domain = ET.SubElement(definition, "domain")
    domain.set("name", "changed-by-its-owner")  # no title: libvirt before 9.7 drops it
    container.connection.networkDefineXML(ET.tostring(definition, encoding="unicode"))

    container.renew()

    assert "changed-by-its-owner" in container.connection.networkLookupByName("default").XMLDesc()


@pytest.mark.ends("container")
def test_a_removed_pool_stays_removed(container: Container) -> None:
    pool = container.connection.storagePoolLookupByName("default")
    definition = pool.XMLDesc(libvirt.VIR_STORAGE_XML_INACTIVE)
    pool.destroy()
    pool.undefine()

    container.renew()

    try:
        assert "default" not in [pool.name() for pool in container.connection.listAllStoragePools()]
    finally:
        container.connection.storagePoolDefineXML(definition).create()
