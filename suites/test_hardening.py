"""The confinement of each guest's QEMU, whatever the mode."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.checks import confinement
from conformance.checks.confinement import Confinement
from conformance.container.container import Container
from conformance.model.mode import Mode

pytestmark = pytest.mark.hardening


@pytest.fixture
def qemu(container: Container, evidence: dict[str, Any]) -> Iterator[Confinement]:
    with confinement.of_paused_domain(container) as found:
        evidence["qemu"] = {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in dataclasses.asdict(found).items()
        }
        yield found


@pytest.mark.essential
def test_qemu_is_not_root(qemu: Confinement) -> None:
    assert 0 not in qemu.user
    assert 0 not in qemu.groups


@pytest.mark.essential
def test_qemu_has_no_capability_and_gains_none(qemu: Confinement) -> None:
    assert qemu.capabilities == 0
    assert not qemu.new_privileges


@pytest.mark.essential
def test_qemus_system_calls_are_filtered(qemu: Confinement) -> None:
    assert qemu.filters > 0, "QEMU has no more filters of system calls than its daemon"


@pytest.mark.extras
def test_qemu_has_a_namespace_and_a_control_group_of_its_own_where_they_are_on(qemu: Confinement, mode: Mode) -> None:
    assert qemu.mount_namespace == ("QEMU_NAMESPACES" not in mode.environment)
    assert qemu.control_group == ("QEMU_CGROUPS" not in mode.environment)


def test_qemu_has_the_limits_and_the_priority_of_its_daemon(qemu: Confinement) -> None:
    # qemu.conf: libvirt lifts the limit of core dumps (max_core), and that of locked memory where a device needs it.
    assert not qemu.limits.keys() - {"Max core file size", "Max locked memory"}


def test_graphics_listen_on_the_loopback_address_only(qemu: Confinement) -> None:
    assert qemu.listens, "its graphics listen nowhere"
    assert not qemu.beyond_loopback
