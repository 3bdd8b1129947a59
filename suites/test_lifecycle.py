"""The life of domains, networks and pools, and changes to a guest while it runs."""

from collections.abc import Iterator

import libvirt
import pytest

from conformance.checks.libvirt_objects import Kind, kinds, swept
from conformance.container.container import Container
from conformance.guests import hot_plug, snapshots
from conformance.guests.factory import Guests
from conformance.guests.spec import MEMORY_MIB, DiskFormat
from conformance.guests.storage import DISK_BYTES
from conformance.plugin.fixtures import RunningGuests

pytestmark = pytest.mark.lifecycle


@pytest.fixture(params=["domain", "network", "pool"])
def kind(request: pytest.FixtureRequest, container: Container) -> Iterator[Kind]:
    with swept(container):
        yield kinds(container)[request.param]


@pytest.mark.essential
def test_a_transient_object_is_gone_when_it_is_stopped(kind: Kind) -> None:
    made = kind.create(kind.definition("ladder-transient"))
    assert made.isActive()
    assert not made.isPersistent()

    made.destroy()

    assert not kind.exists("ladder-transient")


@pytest.mark.essential
def test_a_persistent_object_outlives_its_stop(kind: Kind) -> None:
    made = kind.define(kind.definition("ladder-persistent"))
    if kind.name == "pool":
        made.build()
    made.create()
    made.destroy()

    assert kind.exists("ladder-persistent")
    assert not made.isActive()

    made.undefine()

    assert not kind.exists("ladder-persistent")


def test_only_a_persistent_object_starts_by_itself(kind: Kind) -> None:
    made = kind.define(kind.definition())
    assert not made.autostart()

    made.setAutostart(1)

    assert made.autostart()
    with pytest.raises(libvirt.libvirtError, match=r"transient|no config file"):
        kind.create(kind.definition()).setAutostart(1)


def test_a_new_definition_replaces_the_old_one(kind: Kind) -> None:
    made = kind.define(kind.definition("ladder-redefined", title="first"))

    kind.define(kind.definition("ladder-redefined", identity=made.UUIDString(), title="second"))

    assert "second" in kind.lookup("ladder-redefined").XMLDesc()
    assert "first" not in kind.lookup("ladder-redefined").XMLDesc()


def test_a_transient_object_becomes_persistent_when_it_is_defined(kind: Kind) -> None:
    definition = kind.definition("ladder-both")
    made = kind.create(definition)

    kind.define(definition)

    assert made.isPersistent()
    made.destroy()
    assert kind.exists("ladder-both")


def test_names_and_uuids_are_unique(kind: Kind) -> None:
    made = kind.define(kind.definition("ladder-unique"))

    with pytest.raises(libvirt.libvirtError, match="already exists"):
        kind.define(kind.definition("ladder-unique"))
    with pytest.raises(libvirt.libvirtError, match=r"already (exists|defined)"):
        kind.define(kind.definition("ladder-other", identity=made.UUIDString()))


def test_what_is_not_active_cannot_be_stopped_and_what_is_cannot_be_started(kind: Kind) -> None:
    made = kind.define(kind.definition())
    with pytest.raises(libvirt.libvirtError, match=r"not (active|running)"):
        made.destroy()

    running = kind.create(kind.definition())
    with pytest.raises(libvirt.libvirtError, match=r"already (active|running)"):
        running.create()


def test_a_paused_guest_stands_still(running: RunningGuests) -> None:
    guest = running()
    before = guest.probe.ask("kept")["uptime"]

    guest.pause(seconds=3)

    # The guest's own clock, which stands still while the guest is paused.
    assert guest.probe.ask("kept")["uptime"] - before < 3


def test_a_saved_guest_goes_on_from_where_it_was(running: RunningGuests) -> None:
    guest = running()
    before = guest.probe.ask("keep", word="saved")

    with snapshots.saved(guest):
        assert not guest.alive

    after = guest.probe.ask("kept")
    assert (after["word"], after["boot"]) == ("saved", before["boot"])
    assert after["uptime"] > before["uptime"]


def test_a_reverted_guest_has_the_memory_and_the_disk_of_its_snapshot(running: RunningGuests) -> None:
    guest = running("snapshots")
    guest.probe.ask("keep", word="before")
    held = guest.probe.ask("disk", of="before")["written"]

    with snapshots.reverted(guest):
        guest.probe.ask("keep", word="after")
        assert guest.probe.ask("disk", of="after")["read"] != held

    assert guest.probe.ask("kept")["word"] == "before"
    assert guest.probe.ask("disk", disk="verify", of="before")["read"] == held


def test_a_guests_memory_shrinks_and_grows_while_it_runs(running: RunningGuests) -> None:
    guest = running()
    whole = guest.probe.ask("memory")["memory_kib"]

    guest.domain.setMemory((MEMORY_MIB - 128) * 1024)
    guest.probe.ask_until("memory", lambda seen: bool(seen["memory_kib"] == whole - 128 * 1024))

    guest.domain.setMemory(MEMORY_MIB * 1024)
    guest.probe.ask_until("memory", lambda seen: bool(seen["memory_kib"] == whole))


def test_a_processor_is_plugged_in_while_the_guest_runs_and_used_after_a_reboot(running: RunningGuests) -> None:
    guest = running()
    first = guest.probe.ask("keep", word="forgotten")
    assert guest.probe.ask("processors")["plugged"] == 1

    guest.domain.setVcpus(2)
    guest.probe.ask_until("processors", lambda seen: bool(seen["plugged"] == 2))
    if guest.observed.kvm["enabled"]:
        # At once only there: Linux 6.12 uses no processor that it did not start with unless it knows its hypervisor
        # (acpi_is_processor_usable in arch/x86/kernel/acpi/boot.c), and it does not know emulation.
        guest.probe.ask_until("processors", lambda seen: bool(seen["ran_on"] == [0, 1]))
    guest.reboot()

    second = guest.probe.ask("kept")
    assert second["boot"] != first["boot"]
    assert second["word"] is None
    assert guest.probe.ask("processors")["ran_on"] == [0, 1]


def test_the_guest_sees_its_medium_change(running: RunningGuests, guests: Guests) -> None:
    guest = running("drive")

    for line in ("the-first", "the-second"):
        hot_plug.insert_medium(guest, guests.pool.new_medium(line))
        assert guest.probe.ask("medium")["line"] == line

    hot_plug.eject_medium(guest)
    assert not guest.probe.ask("medium")["present"]


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_volume_has_its_format_and_its_capacity(guests: Guests, disk_format: DiskFormat) -> None:
    volume = guests.pool.new_disk(disk_format)

    assert guests.pool.layout(volume) == (disk_format, DISK_BYTES)


def test_a_volume_is_cloned_uploaded_and_downloaded(guests: Guests) -> None:
    original = guests.pool.new_disk()
    guests.pool.write(original, b"what was uploaded")

    copy = guests.pool.clone(original)

    assert guests.pool.read(copy, 0, 17) == b"what was uploaded"


@pytest.mark.ends("guest")
def test_a_guest_obeys_the_power_button(running: RunningGuests) -> None:
    guest = running()

    guest.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    last = guest.wait_for_end(seconds=60).report.events[-2:]
    assert [event.name for event in last] == ["button", "end"]
