"""The libvirt API over TCP."""

from typing import Any

import libvirt
import pytest
from testinfra.host import Host

from conformance.container import Container

pytestmark = pytest.mark.api


@pytest.mark.essential
def test_libvirt_answers_on_the_published_port(
    connection: libvirt.virConnect, inside: Host, evidence: dict[str, Any]
) -> None:
    evidence |= {"libvirt": connection.getLibVersion(), "qemu": connection.getVersion(), "uri": connection.getURI()}

    assert connection.getType() == "QEMU"
    assert connection.getHostname() == inside.check_output("hostname")


def test_the_api_is_offered_on_the_loopback_address_only(container: Container, evidence: dict[str, Any]) -> None:
    evidence["addresses"] = sorted(container.api_addresses)

    assert container.api_addresses == {"127.0.0.1"}
