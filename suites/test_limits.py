"""The container's limits hold for its guests."""

from typing import Any

import pytest

from conformance.checks import control_groups
from conformance.container.container import Container
from conformance.plugin.fixtures import RunningGuests

pytestmark = pytest.mark.limits


def test_a_guests_control_group_is_below_its_containers_own(
    container: Container, running: RunningGuests, evidence: dict[str, Any]
) -> None:
    guest = running().qemu.control_groups
    first = container.run("cat", "/proc/1/cgroup").text
    own = control_groups.own(first, container.id)
    evidence["groups"] = {"the container's": own, "QEMU's": control_groups.of_memory(guest)}

    assert control_groups.below(guest, own), f"QEMU is in {control_groups.of_memory(guest)!r}, outside of {own!r}"
