"""The libvirt API over TCP."""

from typing import Any

import libvirt
import pytest
from testinfra.host import Host

from conformance import uploads
from conformance.container import Container
from conformance.errors import ImageFailure, ImageLate
from conformance.guests import Guests

pytestmark = pytest.mark.api

TRIES = 6
"""Of something that is a race: libvirt 11.3 lost it in about every second try."""

UPLOAD_BYTES = 2**30
"""More than is uploaded before the client dies."""

ANSWER_SECONDS = 120
"""From the death of a client to an answer: an image may take a minute to notice that its daemon hangs, and has to start
it again."""


@pytest.mark.essential
def test_libvirt_answers_on_the_published_port(
    connection: libvirt.virConnect, inside: Host, evidence: dict[str, Any]
) -> None:
    evidence |= {"libvirt": connection.getLibVersion(), "qemu": connection.getVersion(), "uri": connection.getURI()}

    assert connection.getType() == "QEMU"
    # libvirt adds the domain, where the container has one.
    assert connection.getHostname().partition(".")[0] == inside.check_output("hostname")


def test_the_api_is_offered_on_the_loopback_address_only(container: Container, evidence: dict[str, Any]) -> None:
    evidence["addresses"] = sorted(container.api_addresses)

    assert container.api_addresses == {"127.0.0.1"}


@pytest.mark.ends("container")
def test_a_client_that_dies_in_the_middle_of_an_upload_leaves_a_daemon_that_answers(
    container: Container, guests: Guests, evidence: dict[str, Any]
) -> None:
    path = guests.room(UPLOAD_BYTES)
    evidence["died while it uploaded"] = died = []

    for number in range(1, TRIES + 1):
        died.append(uploads.die(container.uri, path))
        try:
            container.wait_until_ready(ANSWER_SECONDS)
        except ImageLate as error:
            what = f"libvirt did not answer within {ANSWER_SECONDS} s after a client died in the middle of an upload"
            raise ImageFailure(f"{what}, in try {number} of {TRIES}\n{error}") from error

    assert any(died), "no client died while it uploaded"
    container.connection.storageVolLookupByPath(path).delete()


@pytest.mark.extras
def test_the_health_check_tells_a_daemon_that_answers_from_one_that_does_not(container: Container) -> None:
    assert container.health_check().status == 0

    where_nobody_listens = container.health_check(port=1)

    assert where_nobody_listens.status != 0, "the health check says healthy of a daemon that does not answer"
