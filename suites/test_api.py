"""The libvirt API over TCP."""

from typing import Any

import libvirt
import pytest
from testinfra.host import Host

from conformance.container.container import Container
from conformance.container.health import run_health_check
from conformance.guests.peer_network import PeerNetwork
from conformance.media.probe import PEER_PORT
from conformance.run.context import Run

pytestmark = pytest.mark.api


@pytest.mark.essential
def test_libvirt_answers_on_the_published_port(
    connection: libvirt.virConnect, container_host: Host, evidence: dict[str, Any]
) -> None:
    evidence |= {"libvirt": connection.getLibVersion(), "qemu": connection.getVersion(), "uri": connection.getURI()}

    assert connection.getType() == "QEMU"
    # libvirt adds the domain, where the container has one.
    assert connection.getHostname().partition(".")[0] == container_host.check_output("hostname")


def test_the_api_is_offered_on_the_loopback_address_only(
    container: Container, peer_network: PeerNetwork, evidence: dict[str, Any]
) -> None:
    evidence["addresses"] = sorted(container.api_addresses)

    assert container.api_addresses == {"127.0.0.1"}
    assert peer_network.opens(peer_network.address, PEER_PORT), "a port that is open is not seen"
    assert not peer_network.opens(peer_network.gateway, container.host_port), "the host's other addresses offer it"


@pytest.mark.extras
def test_the_health_check_tells_a_daemon_that_answers_from_one_that_does_not(container: Container) -> None:
    assert run_health_check(container).status == 0

    without_a_listener = run_health_check(container, port=1)

    assert without_a_listener.status != 0, "the health check reports a daemon that does not answer as healthy"


@pytest.mark.extras
def test_the_local_socket_is_open_to_libvirts_group_alone(container: Container, run: Run) -> None:
    for user, opened in ((run.contract.image.user, True), ("nobody", False)):
        done = container.run("virsh", "--connect", "qemu:///system", "uri", user=user)
        assert (done.status == 0) == opened, f"{user}: {done.text}{done.stderr.decode(errors='replace')}"
    read_only = container.run("virsh", "--readonly", "--connect", "qemu:///system", "uri", user="nobody")
    assert read_only.status, "anybody in the container may read the definitions"
