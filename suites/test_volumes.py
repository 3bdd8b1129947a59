"""The volumes: their permissions, owners and content."""

import libvirt
import pytest
from testinfra.host import Host

from conformance.container.container import Container
from conformance.run.context import Run

pytestmark = pytest.mark.volumes


def test_each_volume_has_its_documented_permission_mode(run: Run, container_host: Host) -> None:
    folders = {volume.path: container_host.file(volume.path) for volume in run.contract.volumes}
    for path, folder in folders.items():
        assert folder.is_directory
        assert container_host.mount_point(path).exists

    found = {path: f"{folder.mode:o}" for path, folder in folders.items()}
    assert found == {volume.path: volume.permission for volume in run.contract.volumes}


@pytest.mark.essential
def test_each_volume_belongs_to_libvirt(run: Run, container_host: Host) -> None:
    image = run.contract.image
    folders = [volume.path for volume in run.contract.volumes]

    # One command for all: each takes a second or two inside of a lab.
    found = container_host.check_output("stat --format=%U:%G " + " ".join(folders)).split()
    assert dict(zip(folders, found, strict=True)) == dict.fromkeys(folders, f"{image.user}:{image.group}")


@pytest.mark.extras
def test_libvirt_has_the_documented_numbers(run: Run, container_host: Host) -> None:
    documented = {one.name: one.default for one in run.contract.parameters}
    user = container_host.user(run.contract.image.user)

    assert {"LIBVIRT_UID": str(user.uid), "LIBVIRT_GID": str(user.gid)}.items() <= documented.items()


@pytest.mark.ends("container")
def test_images_that_lay_there_before_belong_to_libvirt_after_a_start(
    container: Container, run: Run, container_host: Host
) -> None:
    image = run.contract.image
    older = f"{image.images}/older"
    container_host.check_output(f"mkdir -p {older} && touch {older}/guest.raw && chown -R root:root {older}")

    container.renew()

    for path in (image.images, older, f"{older}/guest.raw"):
        assert (container_host.file(path).user, container_host.file(path).group) == (image.user, image.group)


@pytest.mark.essential
def test_qemu_logs_into_the_log_volume(connection: libvirt.virConnect, run: Run, container_host: Host) -> None:
    domain = connection.createXML(
        "<domain type='qemu'><name>logged</name><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>",
        libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY,
    )
    domain.destroy()

    log = container_host.file(f"{run.contract.image.logs}/logged.log")
    assert log.is_file, f"{log.path} is not there after its domain was"
    assert "guest=logged" in log.content_string
