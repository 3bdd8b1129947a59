"""A container that ends while guests run, and starts again."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.container import Container
from conformance.guest import Autostarted
from conformance.guests import Guests
from conformance.objects import keep, kept, swept

pytestmark = [pytest.mark.restart, pytest.mark.ends("container")]


@pytest.fixture(scope="module")
def autostarted(guests: Guests) -> Iterator[Autostarted]:
    with guests.autostarted() as guest:
        yield guest


@pytest.mark.essential
def test_a_guest_that_is_to_start_with_the_container_does(guests: Guests, container: Container) -> None:
    with guests.autostarted(now=False) as guest:
        # Where it does not start at all, that is said at once, in the daemon's own words.
        guest.begin_and_end()
        container.kill()
        container.revive()

        assert "ready" in guest.wait_until_up()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_persistent_is_back_and_autostarted_guests_run_again(
    autostarted: Autostarted, container: Container, evidence: dict[str, Any], end: str
) -> None:
    with swept(container):
        before = autostarted.wait_until_up()
        own = keep(container)

        autostarted.forget()
        if end == "stop":
            assert container.stop() == 0, f"the container did not end by itself: exit status {container.exit_status}"
        else:
            container.kill()
        container.revive()

        after = autostarted.wait_until_up()
        evidence |= {"before": before.as_json(), "after": after.as_json()}
        assert after["kept"]["boot"] != before["kept"]["boot"]
        assert kept(container) == own | {"domain": dataclasses.replace(own["domain"], active=False)}
        assert container.connection.networkLookupByName("default").isActive()
        assert container.connection.storagePoolLookupByName("default").isActive()
        assert container.stale() == []
