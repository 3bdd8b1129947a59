"""Whose control groups a process is in."""

import pytest

from conformance.checks import control_groups

ID = "71185bf18502"
V1 = f"9:name=systemd:/docker/{ID}\n4:memory:/docker/{ID}\n2:cpu,cpuacct:/docker/{ID}\n0::/\n"
V2 = f"0::/system.slice/docker-{ID}.scope/container\n"


@pytest.mark.parametrize(
    ("groups", "group"),
    [
        (V1, f"/docker/{ID}"),
        (V2, f"/system.slice/docker-{ID}.scope"),
        ("0::/\n", "/"),
        ("0::/container\n", "/"),
    ],
)
def test_a_containers_own_group_is_named_after_it_or_the_root(groups: str, group: str) -> None:
    assert control_groups.own(groups, ID) == group


@pytest.mark.parametrize(
    ("first", "guest", "below"),
    [
        (V1, f"4:memory:/docker/{ID}/machine/qemu-1-guest.libvirt-qemu\n0::/\n", True),
        (V1, V1, True),
        (V1, "4:memory:/machine/qemu-1-guest.libvirt-qemu\n0::/\n", False),
        (V1, f"4:memory:/docker/{ID}0/machine\n", False),
        (V2, f"0::/system.slice/docker-{ID}.scope/machine/qemu-1-guest.libvirt-qemu/emulator\n", True),
        (V2, "0::/machine/qemu-1-guest.libvirt-qemu/emulator\n", False),
        ("0::/container\n", "0::/machine/qemu-1-guest.libvirt-qemu/emulator\n", True),
        ("0::/\n", "0::/../machine/qemu-1-guest.libvirt-qemu\n", False),
        ("0::/\n", "", False),
    ],
)
def test_a_guest_is_below_its_containers_group_or_not(first: str, guest: str, below: bool) -> None:
    assert control_groups.below(guest, control_groups.own(first, ID)) is below
