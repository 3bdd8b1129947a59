"""A container that ends while guests run, and starts again."""

import pytest
from testinfra.host import Host

from conformance.container import Container
from conformance.guests import Guests

pytestmark = pytest.mark.restart

VOLUME = "<volume><name>kept</name><capacity unit='MiB'>1</capacity></volume>"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_is_persistent_is_back_and_autostarted_guests_run_again(
    container: Container, guests: Guests, inside: Host, end: str
) -> None:
    pool = container.connection.storagePoolLookupByName("default")
    if "kept" not in pool.listVolumes():
        pool.createXML(VOLUME, 0)

    with guests.autostarted() as guest:
        guest.forget()
        container.stop() if end == "stop" else container.kill()
        container.revive()

        assert guest.wait_until_up()["boot"]["uptime"] < 60
        assert container.connection.networkLookupByName("default").isActive()
        assert "kept" in container.connection.storagePoolLookupByName("default").listVolumes()
        stale = 'for file in /run/libvirt/qemu/*.pid; do kill -0 "$(cat "$file")" || echo "$file"; done'
        assert inside.check_output(stale) == ""
