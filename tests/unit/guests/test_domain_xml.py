"""The domain definitions of guests."""

import xml.etree.ElementTree as ET
from typing import Any

import libvirt
import pytest

from conformance.guests.devices import DEVICES
from conformance.guests.domain_xml import domain_xml
from conformance.guests.spec import GuestSpec, Tuning


@pytest.mark.parametrize(("managed", "said"), [(True, "yes"), (False, "no")])
def test_a_pci_device_is_named_by_where_the_host_has_it(managed: bool, said: str) -> None:
    spec = GuestSpec("bios", "tcg", "pool", hostdev="0001:0a:1f.2", managed=managed)
    device = ET.fromstring(domain_xml("probe", spec, "mac", {})).find("devices/hostdev")
    assert device is not None
    assert (device.get("type"), device.get("managed")) == ("pci", said)
    address = device.find("source/address")
    assert address is not None
    assert address.attrib == {"domain": "0x0001", "bus": "0x0a", "slot": "0x1f", "function": "0x2"}


def test_a_macvtap_interface_is_on_a_link_in_a_mode() -> None:
    spec = GuestSpec("bios", "tcg", "pool", macvtap="eth0", macvtap_mode="vepa")
    xml = domain_xml("probe", spec, "52:54:00:00:00:01", {})
    assert '<interface type="direct">' in xml
    assert '<source dev="eth0" mode="vepa" />' in xml


def test_an_installer_starts_from_its_disk_as_soon_as_it_can_and_may_reboot() -> None:
    spec = GuestSpec("bios", "tcg", "pool", iso="medium.iso", disk="disk.raw", installs=True)
    domain = ET.fromstring(domain_xml("probe", spec, "52:54:00:00:00:01", {}))
    assert [boot.get("dev") for boot in domain.iterfind("os/boot")] == ["hd", "cdrom"]
    assert (domain.findtext("on_reboot"), domain.findtext("on_crash")) == ("restart", "destroy")


def test_a_tuned_guest_is_bound_to_what_its_spec_names() -> None:
    tuning = Tuning(processors="3", emulator="0-1", nodes="0", locked=True, hard_limit_mib=2048, huge_pages=True)
    domain = ET.fromstring(domain_xml("probe", GuestSpec("bios", "tcg", "pool", cpus=2, tuning=tuning), "mac", {}))

    assert [(one.get("vcpu"), one.get("cpuset")) for one in domain.findall("cputune/vcpupin")] == [
        ("0", "3"),
        ("1", "3"),
    ]
    assert domain.find("cputune/emulatorpin[@cpuset='0-1']") is not None
    assert domain.find("numatune/memory[@mode='strict'][@nodeset='0']") is not None
    assert domain.find("memoryBacking/locked") is not None
    assert domain.find("memoryBacking/hugepages") is not None
    assert domain.findtext("memtune/hard_limit[@unit='MiB']") == "2048"


def test_a_guest_that_is_not_tuned_is_bound_to_nothing() -> None:
    domain = ET.fromstring(domain_xml("probe", GuestSpec("bios", "tcg", "pool"), "mac", {}))
    assert not {"cputune", "numatune", "memoryBacking", "memtune"} & {one.tag for one in domain}


def test_a_guest_may_have_more_media_and_processors() -> None:
    spec = GuestSpec("efi", "tcg", "pool", iso="w.iso", more_isos=("drivers.iso", "answers.iso"), cpus=2)
    domain = ET.fromstring(domain_xml("probe", spec, "52:54:00:00:00:01", {}))
    drives = [
        (disk.find("source").get("volume"), disk.find("target").get("dev"))  # type: ignore[union-attr]
        for disk in domain.iterfind("devices/disk[@device='cdrom']")
    ]
    assert drives == [("w.iso", "sda"), ("drivers.iso", "sdb"), ("answers.iso", "sdc")]
    assert domain.findtext("vcpu") == "2"


def test_any_other_guest_starts_from_its_medium_and_ends_where_it_reboots() -> None:
    spec = GuestSpec("bios", "tcg", "pool", iso="medium.iso", disk="disk.raw")
    domain = ET.fromstring(domain_xml("probe", spec, "52:54:00:00:00:01", {}))
    assert [boot.get("dev") for boot in domain.iterfind("os/boot")] == ["cdrom"]
    assert domain.findtext("on_reboot") == "destroy"


@pytest.mark.parametrize("firmware", ["bios", "efi", "secure-boot"])
@pytest.mark.parametrize(
    "medium",
    [
        {"iso": "probe.iso"},
        {"kernel": "/k", "initrd": "/i"},
        {"kernel": "/k", "initrd": "/i", "devices": frozenset(DEVICES), "adjustable": True, "disk_format": "qcow2"},
    ],
)
def test_libvirt_accepts_the_domain(firmware: Any, medium: dict[str, Any]) -> None:
    spec = GuestSpec(firmware=firmware, accel="tcg", pool="p", disk="d", network="default", **medium)
    xml = domain_xml("probe", spec, "52:54:00:00:00:01", {"nonce": "a&b", "ask": "disk,net"})
    connection = libvirt.open("test:///default")
    try:
        # The test driver knows no QEMU: only the schema's parser runs, with its own type.
        domain = connection.defineXML(xml.replace('type="qemu"', 'type="test"', 1))
        described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        domain.undefine()
        assert "probe.nonce=a&amp;b" in described
        assert ("firmware='efi'" in described) == (firmware != "bios")
        assert ("current='1'>2</vcpu>" in described) == spec.adjustable
        assert f"type='{spec.disk_format}'" in described
        tags = {one.tag for one in ET.fromstring(described).iterfind("devices/*")}
        assert tags >= {ET.fromstring(DEVICES[name].xml).tag for name in spec.devices if DEVICES[name].xml}
    finally:
        connection.close()
