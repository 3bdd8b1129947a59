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

    assert paths, "the mode exposes no path"
    for path, permission in paths.items():
        owner = int(permission[0], 8)
        file = inside.file(path)
        assert file.user == "root"
        # The search bit means nothing for a device.
        wanted = owner if file.is_directory else owner & 0o6
        assert file.mode >> 6 & wanted == wanted, f"{path} is {file.mode:o}, documented is {permission}"
        assert inside.run("test -r %s && test -w %s", path, path).succeeded
