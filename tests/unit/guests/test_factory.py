"""The boots and guests that are shared between checks, and the guests that requests describe."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from conformance.errors import ImageFailure
from conformance.guests import devices
from conformance.guests import running as running_guests
from conformance.guests.factory import Guests, require_started
from conformance.guests.guest import Guest
from conformance.guests.request import GuestRequest, on_macvtap, on_medium, tuned, with_pci_device
from conformance.guests.spec import GuestSpec, Tuning
from conformance.host.pci import Device
from conformance.media.probe_report import Event

Boots = list[tuple[str, frozenset[Any]]]
SHARED = devices.ONE_BOOT_EACH["bios"][0]
SHARED_BY_UEFI = devices.ONE_BOOT_EACH["efi"][0]


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

        monkeypatch.setattr(Guests, "boot_alone", boot)
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
    assert boots == [SHARED, SHARED_BY_UEFI]


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


def test_the_fewest_boots_have_every_shared_device_and_one_of_them_no_network() -> None:
    (by, everything), (_, without_network) = devices.ONE_BOOT_FOR_ALL["bios"]
    assert by == "secure-boot"
    assert everything == SHARED[1] | SHARED_BY_UEFI[1]
    assert without_network == everything - {"network"}


Started = list[tuple[GuestSpec, dict[str, str]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[GuestRequest], tuple[GuestSpec, dict[str, str]]]:
    """Starts a requested guest, and returns its parts and its orders."""
    started: Started = []

    @contextlib.contextmanager
    def start_domain(_container: object, spec: GuestSpec, orders: dict[str, str], **_: bool) -> Iterator[Any]:
        started.append((spec, orders))
        yield SimpleNamespace(probe=SimpleNamespace(wait_for_event=lambda _name: None))

    monkeypatch.setattr(running_guests, "started", start_domain)
    monkeypatch.setattr("conformance.guests.storage.StoragePool.upload", lambda _self, name, _source: f"/pool/{name}")
    done = SimpleNamespace(status=0)
    container: Any = SimpleNamespace(mode=SimpleNamespace(id="least", vfio=False), run=lambda *_: done)
    probe: Any = SimpleNamespace(kernel=Path("k"), initrd=Path("i"))
    peer: Any = SimpleNamespace(server="peer:80", link=lambda _mode: "eth0")
    guests = Guests(container, probe, peer, "tcg", lambda _text: None, unbootable_reason="emulated twice")

    def start(request: GuestRequest) -> tuple[GuestSpec, dict[str, str]]:
        with guests.start(request):
            return started[-1]

    return start


def test_a_requested_guest_reports_on_its_topics_and_stays(start: Any) -> None:
    spec, orders = start(on_macvtap(link="eth1", mode="vepa"))
    assert (spec.macvtap, spec.macvtap_mode, spec.kernel) == ("eth1", "vepa", "/pool/vmlinuz")
    assert orders == {"ask": "link,lease", "stay": "600"}


def test_a_requested_guest_has_the_part_of_the_host_that_it_is_bound_to(start: Any) -> None:
    spec, _ = start(tuned(Tuning(locked=True)))
    assert (spec.tuning.locked, spec.memory_mib, spec.cpus) == (True, 256, 2)

    controller = Device("0000:00:1f.2", "disk", "ahci", "7")
    spec, orders = start(with_pci_device(controller))
    assert (spec.hostdev, spec.managed) == ("0000:00:1f.2", True)
    assert orders == {"ask": "disk", "device": "sda", "stay": "600"}


def test_a_medium_is_booted_without_orders_and_without_the_probe(start: Any) -> None:
    spec, orders = start(on_medium(Path("other.iso"), firmware="efi", memory_mib=128))
    assert spec.iso.startswith("medium-")
    assert (spec.kernel, spec.screen, spec.memory_mib, spec.unbootable_reason, orders) == ("", True, 128, "", {})


class Resident:
    """A guest that stays."""

    def __init__(self, needs: frozenset[str]) -> None:
        self.needs, self.alive, self.unresponsive = needs, True, False


Residents = tuple[Guests, list[frozenset[Any]]]


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Residents]:
    """Makes guests that stay; those that are given do not start."""

    def stay(*broken: frozenset[str]) -> Residents:
        boots: list[frozenset[Any]] = []

        @contextlib.contextmanager
        def start(_self: Guests, request: GuestRequest) -> Iterator[Resident]:
            assert request.adjustable
            boots.append(request.devices)
            if boots[-1] in broken:
                raise libvirt.libvirtError(f"no {sorted(request.devices)}")
            yield Resident(boots[-1])

        monkeypatch.setattr(Guests, "start", start)
        nothing: Any = None
        return Guests(nothing, nothing, nothing, "tcg", lambda _text: None), boots

    return stay


A, B = devices.SHARED_GUESTS


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
