import subprocess
from typing import Any

import pytest

from conformance.doctor import survey

ALL = f"{(1 << 41) - 1:x}"
WITHOUT_SYS_RESOURCE = f"{(1 << 41) - 1 - (1 << 24):x}"
WITHOUT_NEWER = f"{(1 << 38) - 1:x}"

TRIED = """\
absent /dev/kvm
closed /dev/net/tun Operation not permitted
made bridge
refused macvtap RTNETLINK answers: Operation not supported
"""


def looked(*lines: str) -> survey.Survey:
    return survey.parse("\n".join(["last-capability 40", *lines]), TRIED)


def test_failed_attempts_keep_their_reason() -> None:
    seen = looked()
    assert seen.devices == {"/dev/kvm": "absent", "/dev/net/tun": "Operation not permitted"}
    assert seen.links == {"bridge": "made", "macvtap": "RTNETLINK answers: Operation not supported"}


def test_an_impossible_attempt_is_no_evidence() -> None:
    seen = survey.parse("last-capability 40", "opens /dev/kvm\nrefused bridge sh: 1: ip: not found\n")
    assert seen.devices == {"/dev/kvm": "opens"}
    assert seen.links == {}


def test_the_machine_is_read() -> None:
    seen = looked(
        "cgroup 2",
        "undelegated",
        "security apparmor",
        "module bridge",
        "cpu svm",
        "iommu 0",
        "iommu 1",
        "libvirt link virbr0",
    )
    assert (seen.cgroup_version, seen.security, seen.virtualization, seen.iommu_groups) == (2, ("apparmor",), "svm", 2)
    assert (seen.undelegated, seen.libvirt) == (True, ("link virbr0",))
    assert sorted(seen.modules) == ["bridge"]
    bare = looked()
    assert (bare.cgroup_version, bare.security, bare.virtualization, bare.iommu_groups) == (1, (), "", 0)


@pytest.mark.parametrize(
    ("lines", "lacking"),
    [
        ([f"granted {ALL}"], set()),
        ([f"granted {WITHOUT_NEWER}"], set()),
        ([f"granted {WITHOUT_SYS_RESOURCE}", f"engine-capabilities {ALL}"], {"SYS_RESOURCE"}),
        ([f"engine-capabilities {WITHOUT_SYS_RESOURCE}", f"own-capabilities {ALL}"], {"SYS_RESOURCE"}),
        ([f"own-capabilities {WITHOUT_SYS_RESOURCE}"], {"SYS_RESOURCE"}),
    ],
)
def test_missing_capabilities_come_from_the_best_source(lines: list[str], lacking: set[str]) -> None:
    assert looked(*lines).lacking == frozenset(lacking)


def test_without_a_witness_nothing_is_known_of_capabilities() -> None:
    assert looked().lacking is None
    assert survey.parse("", "").lacking is None
    assert looked("refused", f"engine-capabilities {WITHOUT_SYS_RESOURCE}").refused


def test_this_machine_is_surveyed_without_an_engine() -> None:
    seen = survey.here()
    assert seen.lacking is not None
    assert seen.cgroup_version in (1, 2)


@pytest.mark.parametrize("error", [FileNotFoundError("unshare"), subprocess.TimeoutExpired("sh", 20)])
def test_a_script_that_cannot_run_has_no_output(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert survey.here() == survey.parse("", "")
