"""What the mode exposes of its host."""

import pytest
from testinfra.host import Host

from conformance.container import Container
from conformance.errors import Unsupported

pytestmark = pytest.mark.exposures


def test_exposed_paths_have_their_documented_permissions(container: Container, inside: Host) -> None:
    if container.absent:
        raise Unsupported(f"the host has no {', '.join(container.absent)}")
    paths = container.mode.permissions
    state = container.state()

    assert paths, "the mode exposes no path"
    for path, permission in paths.items():
        assert permission in ("700", "500"), "what follows asks for what the owner may do, and nothing of others"
        if inside.file(path).is_directory:
            assert inside.run("test -r %s && test -x %s", path, path).succeeded
            if permission == "700":
                assert state.writable(path), f"{path} is mounted read-only"
            else:
                assert inside.run("test -w %s", path).failed, f"{path} is mounted writable"
        else:
            assert inside.run(": <>%s", path).succeeded, f"{path} cannot be opened for reading and writing"


def test_the_daemon_is_confined_as_its_container_is(container: Container) -> None:
    state = container.state()

    assert state.daemon_label is not None, "no daemon of libvirt runs"
    assert state.daemon_label == state.label, f"a profile of the host has caught the daemon: {state.daemon_label}"
