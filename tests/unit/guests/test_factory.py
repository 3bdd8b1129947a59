"""Which boots are made, and which are shared."""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from conformance.errors import ImageFailure
from conformance.guests import factory as sharing
from conformance.guests.factory import Guests, require_started
from conformance.guests.guest import Guest, GuestSpec, Tuning, domain_xml
from conformance.media.probe_report import Event

Boots = list[tuple[str, frozenset[str]]]
SHARED = ("bios", frozenset({"iso", "disk", "network"}))


def guest(*failures: str) -> Guest:
    made = Guest("probe", "nonce", GuestSpec("bios", "tcg", "pool"), "<domain/>", "mac")
    made.report.events = [Event("failure", {"step": step, "message": "no"}) for step in failures]
    return made


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Guests, Boots]]:
    """Makes guests whose boots end as given; one that is not given ends well."""

    def make(outcomes: dict[frozenset[str], Any]) -> tuple[Guests, Boots]:
        boots: Boots = []

        def boot(_self: Guests, *wanted: str, firmware: str) -> Guest:
            needs = frozenset(wanted)
            boots.append((firmware, needs))
            outcome = outcomes.get(needs, guest())
            if isinstance(outcome, Exception):
                raise outcome
            made: Guest = outcome
            return made

        monkeypatch.setattr(sharing.Guests, "boot_anew", boot)
        nothing: Any = None
        return Guests(nothing, nothing, nothing, "tcg", lambda _text: None), boots

    return make


def test_one_boot_answers_for_all(make: Any) -> None:
    guests, boots = make({})
    for needs in (("disk",), ("network",), ("iso",), (), ("disk", "network")):
        guests.boot(*needs)
    assert boots == [SHARED]


def test_each_firmware_boots_once(make: Any) -> None:
    guests, boots = make({})
    guests.boot("iso")
    guests.boot("iso", firmware="efi")
    guests.boot(firmware="efi")
    assert boots == [SHARED, ("efi", frozenset({"iso", "tpm"}))]


def test_where_a_shared_boot_fails_each_is_asked_alone_and_the_one_at_fault_is_blamed(make: Any) -> None:
    refused = libvirt.libvirtError("network is not active")
    guests, boots = make({SHARED[1]: refused, frozenset({"network"}): refused})
    guests.boot("disk")
    with pytest.raises(libvirt.libvirtError, match="not active"):
        guests.boot("network")
    with pytest.raises(libvirt.libvirtError, match="not active"):
        guests.boot("network")
    assert boots == [SHARED, ("bios", frozenset({"disk"})), ("bios", frozenset({"network"}))]


def test_where_a_step_fails_in_a_shared_boot_only_its_feature_is_asked_again(make: Any) -> None:
    guests, boots = make({SHARED[1]: guest("lease", "ping")})
    guests.boot("disk")
    guests.boot("network")
    assert boots == [SHARED, ("bios", frozenset({"network"}))]


def test_macvtap_is_never_shared(make: Any) -> None:
    guests, boots = make({})
    guests.boot("macvtap")
    assert boots == [("bios", frozenset({"macvtap"}))]


@pytest.mark.parametrize(("managed", "said"), [(True, "yes"), (False, "no")])
def test_a_pci_device_is_named_by_where_the_host_has_it(managed: bool, said: str) -> None:
    shape = GuestSpec("bios", "tcg", "pool", hostdev="0001:0a:1f.2", managed=managed)
    device = ET.fromstring(domain_xml("probe", shape, "mac", {})).find("devices/hostdev")
    assert device is not None
    assert (device.get("type"), device.get("managed")) == ("pci", said)
    address = device.find("source/address")
    assert address is not None
    assert address.attrib == {"domain": "0x0001", "bus": "0x0a", "slot": "0x1f", "function": "0x2"}


def test_a_macvtap_interface_is_on_a_link_in_a_mode() -> None:
    shape = GuestSpec("bios", "tcg", "pool", macvtap="eth0", macvtap_mode="vepa")
    xml = domain_xml("probe", shape, "52:54:00:00:00:01", {})
    assert '<interface type="direct">' in xml
    assert '<source dev="eth0" mode="vepa" />' in xml


def test_an_installer_starts_from_its_disk_as_soon_as_it_can_and_may_reboot() -> None:
    shape = GuestSpec("bios", "tcg", "pool", iso="medium.iso", disk="disk.raw", installs=True)
    domain = ET.fromstring(domain_xml("probe", shape, "52:54:00:00:00:01", {}))
    assert [boot.get("dev") for boot in domain.iterfind("os/boot")] == ["hd", "cdrom"]
    assert (domain.findtext("on_reboot"), domain.findtext("on_crash")) == ("restart", "destroy")


def test_a_tuned_guest_is_bound_to_what_its_shape_names() -> None:
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
    shape = GuestSpec("efi", "tcg", "pool", iso="w.iso", more_isos=("drivers.iso", "answers.iso"), cpus=2)
    domain = ET.fromstring(domain_xml("probe", shape, "52:54:00:00:00:01", {}))
    drives = [
        (disk.find("source").get("volume"), disk.find("target").get("dev"))  # type: ignore[union-attr]
        for disk in domain.iterfind("devices/disk[@device='cdrom']")
    ]
    assert drives == [("w.iso", "sda"), ("drivers.iso", "sdb"), ("answers.iso", "sdc")]
    assert domain.findtext("vcpu") == "2"


def test_any_other_guest_starts_from_its_medium_and_ends_where_it_reboots() -> None:
    shape = GuestSpec("bios", "tcg", "pool", iso="medium.iso", disk="disk.raw")
    domain = ET.fromstring(domain_xml("probe", shape, "52:54:00:00:00:01", {}))
    assert [boot.get("dev") for boot in domain.iterfind("os/boot")] == ["cdrom"]
    assert domain.findtext("on_reboot") == "destroy"


class Resident:
    """A guest that stays."""

    def __init__(self, needs: frozenset[str]) -> None:
        self.needs, self.alive, self.unresponsive = needs, True, False


Residents = tuple[Guests, list[frozenset[str]]]


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Residents]:
    """Makes guests that stay; those that are given do not start."""

    def stay(*broken: frozenset[str]) -> Residents:
        boots: list[frozenset[str]] = []

        @contextlib.contextmanager
        def start(_self: Guests, *needs: str) -> Iterator[Resident]:
            boots.append(frozenset(needs))
            if boots[-1] in broken:
                raise libvirt.libvirtError(f"no {sorted(needs)}")
            yield Resident(boots[-1])

        monkeypatch.setattr(sharing.Guests, "stay", start)
        nothing: Any = None
        return Guests(nothing, nothing, nothing, "tcg", lambda _text: None), boots

    return stay


A, B = sharing.RESIDENTS


def test_one_guest_that_stays_serves_all_who_ask(stay: Any) -> None:
    guests, boots = stay()
    assert guests.running("disk") is guests.running("network", "drive") is guests.running()
    assert boots == [A]


def test_a_neighbour_is_another_guest_and_the_one_with_least_is_used_up_first(stay: Any) -> None:
    guests, boots = stay()
    first = guests.running("network")
    second = guests.running("network", beside=first)
    assert second is guests.running("snapshots") is guests.running()
    assert second is not first
    assert boots == [A, B]


@pytest.mark.parametrize("how", [{"alive": False}, {"unresponsive": True}])
def test_a_guest_that_ended_or_owes_an_answer_is_replaced(stay: Any, how: dict[str, bool]) -> None:
    guests, boots = stay()
    vars(guests.running("disk")).update(how)
    guests.running("disk")
    assert boots == [A, A]


def test_where_no_shared_guest_starts_what_is_needed_is_asked_for_alone(stay: Any) -> None:
    guests, boots = stay(A, frozenset({"network"}))
    assert guests.running("disk").needs == {"disk"}
    with pytest.raises(libvirt.libvirtError, match=r"no \['network'\]"):
        stay(A, B, frozenset({"network"}))[0].running("network")
    assert boots == [A, frozenset({"disk"})]


class Network:
    """A libvirt network; ``refusal`` is what the daemon says when it is started."""

    def __init__(self, *, active: bool, refusal: str = "") -> None:
        self.active, self.refusal = active, refusal

    def isActive(self) -> bool:  # noqa: N802
        return self.active

    def create(self) -> None:
        if self.refusal:
            raise libvirt.libvirtError(self.refusal)
        self.active = True

    def destroy(self) -> None:
        self.active = False

    def name(self) -> str:
        return "default"


def test_a_network_that_cannot_start_says_why() -> None:
    require_started(Network(active=True))
    with pytest.raises(libvirt.libvirtError, match="not permitted"):
        require_started(Network(active=False, refusal="Operation not permitted"))


def test_a_network_that_nobody_started_is_not_started_by_the_question() -> None:
    network = Network(active=False)
    with pytest.raises(ImageFailure, match="can be started, but was not"):
        require_started(network)
    assert not network.active


@pytest.mark.parametrize("firmware", ["bios", "efi", "secure-boot"])
@pytest.mark.parametrize(
    "medium",
    [
        {"iso": "probe.iso"},
        {"kernel": "/k", "initrd": "/i"},
        {"kernel": "/k", "initrd": "/i", "drive": True, "adjustable": True, "disk_format": "qcow2"},
    ],
)
def test_libvirt_accepts_the_domain(firmware: Any, medium: dict[str, Any]) -> None:
    shape = GuestSpec(firmware=firmware, accel="tcg", pool="p", disk="d", network="default", **medium)
    xml = domain_xml("probe", shape, "52:54:00:00:00:01", {"nonce": "a&b", "ask": "disk,net"})
    connection = libvirt.open("test:///default")
    try:
        # The test driver knows no QEMU: only the schema's parser is asked, with its own type.
        domain = connection.defineXML(xml.replace('type="qemu"', 'type="test"', 1))
        described = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        domain.undefine()
        assert "probe.nonce=a&amp;b" in described
        assert ("firmware='efi'" in described) == (firmware != "bios")
        assert ("current='1'>2</vcpu>" in described) == shape.adjustable
        assert f"type='{shape.disk_format}'" in described
    finally:
        connection.close()


def test_what_was_not_uploaded_whole_is_uploaded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = libvirt.open("test:///default")
    connection.storagePoolCreateXML(
        "<pool type='dir'><name>conformance</name><target><path>/images/conformance</path></target></pool>", 0
    )
    image = SimpleNamespace(images="/images")
    nothing: Any = None
    container: Any = SimpleNamespace(connection=connection, mode=SimpleNamespace(image=image))
    guests = Guests(container, nothing, nothing, "tcg", lambda _text: None)
    medium = tmp_path / "medium.iso"
    medium.write_bytes(b"medium")
    sent: list[int] = []

    def send(_volume: object, _source: object, length: int) -> None:
        sent.append(length)
        if len(sent) == 1:
            raise libvirt.libvirtError("the connection broke off")

    monkeypatch.setattr(sharing, "_send", send)
    with pytest.raises(libvirt.libvirtError):
        guests._upload("medium.iso", medium)
    path = guests._upload("medium.iso", medium)
    assert path == guests._upload("medium.iso", medium) == "/images/conformance/medium.iso"
    assert sent == [6, 6]  # once in vain, once whole, and not again
