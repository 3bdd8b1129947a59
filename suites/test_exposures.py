"""The paths of the host that the mode exposes."""

from typing import Any

import pytest
from testinfra.host import Host

from conformance.container import effective_state
from conformance.container.container import Container
from conformance.errors import Unsupported
from conformance.run.context import Run

pytestmark = pytest.mark.exposures


def test_exposed_paths_have_their_documented_permissions(container: Container, container_host: Host) -> None:
    if container.absent:
        raise Unsupported(f"the host has no {', '.join(container.absent)}")
    paths = container.mode.permissions
    state = effective_state.read(container)

    assert paths, "the mode exposes no path"
    for path, permission in paths.items():
        assert permission in ("700", "500"), "only the owner's permissions are checked below"
        if container_host.file(path).is_directory:
            assert container_host.run("test -r %s && test -x %s", path, path).succeeded
            if permission == "700":
                assert state.writable(path), f"{path} is mounted read-only"
            else:
                assert container_host.run("test -w %s", path).failed, f"{path} is mounted writable"
        else:
            assert container_host.run(": <>%s", path).succeeded, f"{path} cannot be opened for reading and writing"
    if "/dev/kvm" in paths:
        # QEMU alone opens it, which is not root.
        opened = container.run("sh", "-c", ": <>/dev/kvm", user=container.mode.image.user)
        assert opened.status == 0, f"/dev/kvm cannot be opened by {container.mode.image.user}"


@pytest.mark.extras
@pytest.mark.foreseen
def test_the_start_names_what_is_missing(container: Container, run: Run, evidence: dict[str, Any]) -> None:
    evidence["warnings"] = container.warnings

    unnamed = [one for one in run.contract.foreseen(container.mode.id) if one not in " ".join(container.warnings)]
    assert not unnamed, f"the start does not name {', '.join(sorted(unnamed))}"


@pytest.mark.extras
@pytest.mark.recommended
def test_the_start_of_a_recommended_mode_warns_of_nothing_else(container: Container, evidence: dict[str, Any]) -> None:
    evidence["warnings"] = container.warnings

    assert not [one for one in container.warnings if not any(path in one for path in container.absent)]


def test_the_daemon_is_confined_as_its_container_is(container: Container) -> None:
    state = effective_state.read(container)

    assert state.daemon_label is not None, "no daemon of libvirt runs"
    assert state.daemon_label == state.label, f"a profile of the host has caught the daemon: {state.daemon_label}"
