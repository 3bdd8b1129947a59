"""A container or a daemon that ends while it is in use, and starts again."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from conformance.checks import pid_files, uploads
from conformance.checks.libvirt_objects import keep, kept, swept
from conformance.container.container import Container
from conformance.errors import ImageFailure, ImageLate
from conformance.guests.factory import Guests
from conformance.guests.persistent import AutostartGuest

pytestmark = [pytest.mark.restart, pytest.mark.ends("container")]

TRIES = 6
"""Tries of a race, which libvirt 11.3 lost in about every second one."""

UPLOAD_BYTES = 2**30
"""More bytes than are uploaded before the client dies."""

ANSWER_SECONDS = 120
"""From the death of a client to an answer: an image may take a minute to notice that its daemon hangs, and has to start
it again."""

HUNG_SECONDS = 10
"""A slower answer proves that the daemon hung and was restarted: no further try is needed."""


@pytest.fixture(scope="module")
def autostarted(guests: Guests) -> Iterator[AutostartGuest]:
    with guests.autostarted() as guest:
        yield guest


@pytest.mark.essential
def test_a_guest_that_is_to_start_with_the_container_does(guests: Guests, container: Container) -> None:
    with guests.autostarted(now=False) as guest:
        # A domain that does not start at all fails at once, with the daemon's own error.
        guest.begin_and_end()
        container.kill()
        container.revive()

        assert "ready" in guest.wait_until_up()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_persistent_is_back_and_autostarted_guests_run_again(
    autostarted: AutostartGuest, container: Container, evidence: dict[str, Any], end: str
) -> None:
    with swept(container):
        before = autostarted.wait_until_up()
        own = keep(container)

        status, last = 0, before
        if end == "stop":
            status, last = container.stop(), autostarted.last_report()
        else:
            container.kill()
        container.revive()

        assert status == 0, f"the container did not end by itself: exit status {status}"
        assert end != "stop" or "button" in last, "the guest was not shut down, but destroyed"
        after = autostarted.wait_until_up(after=before)
        evidence |= {"before": before.as_json(), "after": after.as_json()}
        assert kept(container) == own | {"domain": dataclasses.replace(own["domain"], active=False)}
        assert container.connection.networkLookupByName("default").isActive()
        assert container.connection.storagePoolLookupByName("default").isActive()
        assert pid_files.stale(container) == []


def test_a_client_that_dies_in_the_middle_of_an_upload_leaves_a_daemon_that_answers(
    container: Container, guests: Guests, evidence: dict[str, Any]
) -> None:
    volume = guests.pool.new_sparse_disk(UPLOAD_BYTES)
    path = guests.pool.path_of(volume)
    died: list[bool] = []
    answered: list[float] = []
    evidence |= {"died while it uploaded": died, "seconds to an answer": answered}

    while len(died) < TRIES and max(answered, default=0) < HUNG_SECONDS:
        died.append(uploads.die(container.uri, path))
        began = time.monotonic()
        try:
            container.wait_until_ready(ANSWER_SECONDS)
        except ImageLate as error:
            what = f"libvirt did not answer within {ANSWER_SECONDS} s after a client died in the middle of an upload"
            raise ImageFailure(f"{what}, in try {len(died)} of {TRIES}\n{error}") from error
        answered.append(round(time.monotonic() - began, 1))

    assert any(died), "no client died while it uploaded"
    with contextlib.suppress(libvirt.libvirtError):  # the daemon may hang only now; it has answered
        guests.pool.delete(volume)
