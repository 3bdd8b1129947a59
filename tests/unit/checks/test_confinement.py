"""The confinement of QEMU, read from the kernel's words."""

import dataclasses

import pytest

from conformance.checks import confinement
from conformance.checks.confinement import Confinement
from conformance.errors import ImageFailure

TEXT = """\
qemu Uid:\t2001\t2001\t2001\t2001
qemu Gid:\t2001\t2001\t2001\t2001
qemu Groups:\t993 2001
qemu CapInh:\t0000000000000000
qemu CapPrm:\t0000000000000000
qemu CapEff:\t0000000000000000
qemu CapAmb:\t0000000000000000
qemu NoNewPrivs:\t1
qemu Seccomp:\t2
qemu Seccomp_filters:\t2
qemu Limit:Max open files            20000                20000                files
qemu Limit:Max nice priority         0                    0
daemon Limit:Max open files            20000                20000                files
daemon Limit:Max nice priority         0                    0
qemu Nice: 0
daemon Nice: 0
qemu Group:1:name=systemd:/machine/qemu-1
daemon Seccomp:\t2
daemon Seccomp_filters:\t1
daemon Group:1:name=systemd:/
daemon Namespace: mnt:[1]
qemu Namespace: mnt:[2]
qemu Listens: 127.0.0.1
"""

CONFINED = Confinement(
    user=frozenset({2001}),
    groups=frozenset({993, 2001}),
    capabilities=0,
    new_privileges=False,
    filters=1,
    mount_namespace=True,
    control_group=True,
    limits={},
    listens=frozenset({"127.0.0.1"}),
)


def test_the_kernels_words_are_read() -> None:
    assert confinement.parse(TEXT) == CONFINED
    assert not CONFINED.beyond_loopback


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("Uid:\t2001\t2001", "Uid:\t2001\t0", {"user": frozenset({0, 2001})}),
        ("Groups:\t993", "Groups:\t0 993", {"groups": frozenset({0, 993, 2001})}),
        ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001", {"capabilities": 1}),
        ("CapAmb:\t0000000000000000", "CapAmb:\t0000000000001000", {"capabilities": 0x1000}),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", {"new_privileges": True}),
        ("files            20000 ", "files            64    ", {"limits": {"Max open files": "64 20000 files"}}),
        ("qemu Nice: 0", "qemu Nice: 19", {"limits": {"Nice": "19"}}),
        ("qemu Seccomp_filters:\t2", "qemu Seccomp_filters:\t1", {"filters": 0}),
        ("mnt:[2]", "mnt:[1]", {"mount_namespace": False}),
        ("/machine/qemu-1", "/", {"control_group": False}),
        ("Listens: 127.0.0.1", "Listens: 0.0.0.0", {"listens": frozenset({"0.0.0.0"})}),
    ],
)
def test_each_weakness_is_seen(old: str, new: str, found: dict[str, object]) -> None:
    assert old in TEXT
    assert confinement.parse(TEXT.replace(old, new, 1)) == dataclasses.replace(CONFINED, **found)  # type: ignore[arg-type]


def test_a_kernel_that_does_not_count_filters_states_that_there_are_some() -> None:
    older = "".join(line for line in TEXT.splitlines(keepends=True) if "Seccomp_filters" not in line)
    assert confinement.parse(older).filters == 0
    assert confinement.parse(older.replace("daemon Seccomp:\t2", "daemon Seccomp:\t0")).filters == 1


@pytest.mark.parametrize("missing", ["qemu Uid", "daemon Namespace", "qemu CapEff"])
def test_silence_is_no_confinement(missing: str) -> None:
    less = "".join(line for line in TEXT.splitlines(keepends=True) if not line.startswith(missing))
    with pytest.raises(ImageFailure, match=missing.split()[1]):
        confinement.parse(less)


def test_an_empty_link_is_silence() -> None:
    with pytest.raises(ImageFailure, match="Namespace"):
        confinement.parse(TEXT.replace("qemu Namespace: mnt:[2]", "qemu Namespace: "))
