"""The life of domains, networks and pools, and what can be done to a guest while it runs."""

import time
from collections.abc import Iterator

import libvirt
import pytest

from conformance.container import Container
from conformance.guests import Guests
from conformance.objects import Kind, kinds, swept
from conformance.plugin import Live

pytestmark = pytest.mark.lifecycle


@pytest.fixture(params=["domain", "network", "pool"])
def kind(request: pytest.FixtureRequest, container: Container) -> Iterator[Kind]:
    with swept(container.connection):
        yield kinds(container.connection)[request.param]


def test_a_transient_object_is_gone_when_it_is_stopped(kind: Kind) -> None:
    made = kind.create(kind.definition("ladder-transient"))
    assert made.isActive()
    assert not made.isPersistent()

    made.destroy()

    assert not kind.exists("ladder-transient")


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


def test_a_paused_guest_stands_still(running: Live) -> None:
    guest = running("disk")
    before = guest.ask("size", device="vda")["uptime"]

    guest.domain.suspend()
    time.sleep(3)
    guest.domain.resume()

    # The guest's own clock: what it did not live through, it did not count.
    assert guest.ask("size", device="vda")["uptime"] - before < 3


def test_a_guest_obeys_the_power_button(guests: Guests) -> None:
    with guests.stay() as guest:
        guest.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

        assert "button" in guest.wait_for_end(seconds=60).report


def test_a_volume_is_cloned_uploaded_and_downloaded(guests: Guests) -> None:
    original = guests.new_disk()
    guests.write(original, b"what was uploaded")

    copy = guests.clone(original)

    assert guests.read(copy, 0, 17) == b"what was uploaded"
