import dataclasses
from collections.abc import Collection

from conformance.container import effective_state
from conformance.container.effective_state import CAPABILITIES, READ_ONLY_PATHS, State
from conformance.model import mode
from conformance.model.contract import Contract
from conformance.model.mode import Mode


def state_of(one: Mode) -> State:
    """Return the state that a mode declares, on a host with cgroup v2 and without a security module."""
    return State(
        capabilities=frozenset(CAPABILITIES) if one.privileged else one.granted,
        last_capability=40,
        seccomp=not (one.privileged or "seccomp=unconfined" in one.security_options),
        label="",
        host_cgroups=one.cgroup_namespace == "host",
        masked=frozenset() if one.unmasked else frozenset(READ_ONLY_PATHS),
        mounts=frozenset(mount.target for mount in one.mounts if mount.access == "rw"),
        read_only=frozenset(f"/usr{mount.target}" for mount in one.mounts if mount.access == "ro"),
        devices=frozenset([*one.devices, *one.groups]),
        majors=frozenset(one.majors.values()),
        unlimited=frozenset(one.unlimited),
    )


def made(contract: Contract, name: str) -> Mode:
    """Return a mode on a host where each driver has a number, and a PCI device is bound."""
    one = mode.from_contract(contract, name)
    return dataclasses.replace(one, majors=dict.fromkeys(one.drivers, 246), groups=("/dev/vfio/7",) if one.vfio else ())


def differences(one: Mode, state: State, *, security: Collection[str] = ()) -> list[tuple[str, bool]]:
    return [
        (found.what, found.lacking)
        for found in effective_state.compare(one, state, cgroup_version=2, security=security)
    ]


def test_the_scripts_output_is_read(state_output: str) -> None:
    state = effective_state.parse(state_output, container_id="4f0c")
    assert {"SYS_ADMIN", "CHOWN"} <= state.capabilities
    assert "NET_ADMIN" not in state.capabilities
    assert not state.seccomp
    assert state.label == "docker-default (enforce)"
    assert state.host_cgroups
    assert state.devices == {"/dev/kvm"}
    # The later mount covers the read-only one; a masked file counts even if it is writable.
    assert state.masked == {"/proc/kcore"}


def test_a_process_that_the_daemon_forked_does_not_hide_its_label(state_output: str) -> None:
    for labels, read in (("", None), ("DaemonLabel \nDaemonLabel unconfined\n", "unconfined"), ("DaemonLabel \n", "")):
        assert effective_state.parse(f"{state_output}\n{labels}", container_id="4f0c").daemon_label == read


SYSTEMDS_CGROUP_V1 = """\
Mount 6 1 0:6 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro
Mount 7 6 0:7 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
Mount 8 6 0:8 / /sys/fs/cgroup/devices {} - cgroup cgroup rw,devices
"""


def test_control_groups_are_writable_where_every_hierarchy_is(state_output: str) -> None:
    """systemd mounts their folder read-only, which holds nothing but the hierarchies' mount points."""
    exposed = effective_state.parse(state_output + SYSTEMDS_CGROUP_V1.format("rw,nosuid"), container_id="4f0c")
    assert exposed.writable("/sys/fs/cgroup")
    assert "/sys/fs/cgroup" in exposed.mounts

    half = effective_state.parse(state_output + SYSTEMDS_CGROUP_V1.format("ro,nosuid"), container_id="4f0c")
    assert not half.writable("/sys/fs/cgroup")
    assert "/sys/fs/cgroup" not in half.mounts


def test_what_a_path_lies_on_decides_whether_it_can_be_written(state_output: str) -> None:
    state = effective_state.parse(
        state_output.replace("Mount 5 3 0:2 /sys /proc/sys rw", "Mount 5 3 0:2 /sys /proc/sys ro"), ""
    )

    assert state.writable("/proc/1")
    assert not state.writable("/proc/sys/net")


def test_a_container_as_declared_has_no_differences(contract: Contract) -> None:
    for claims in contract.modes:
        one = made(contract, claims.id)
        assert differences(one, state_of(one)) == []


def test_a_device_rule_that_the_engine_did_not_take_over_is_seen(contract: Contract, state_output: str) -> None:
    one = made(contract, "unprivileged-macvtap")
    assert differences(one, dataclasses.replace(state_of(one), majors=frozenset())) == [("macvtap", True)]
    assert effective_state.parse(state_output, "").majors == frozenset()
    assert effective_state.parse(state_output + "Major 246\n", "").majors == {246}


def test_what_a_passthrough_lacks_is_seen(contract: Contract, state_output: str) -> None:
    one, managed = made(contract, "unprivileged-passthrough"), made(contract, "privileged-passthrough")
    for mode_, lacking, expected in (
        (one, {"devices": frozenset(one.devices)}, "/dev/vfio/7"),
        (one, {"unlimited": frozenset()}, "memlock"),
        (managed, {"read_only": frozenset(), "mounts": frozenset({"/dev", "/lib/modules"})}, "/lib/modules"),
    ):
        assert differences(mode_, dataclasses.replace(state_of(mode_), **lacking)) == [(expected, True)]
    assert effective_state.parse(state_output, "").unlimited == frozenset()
    assert effective_state.parse(state_output + "Unlimited memlock\n", "").unlimited == {"memlock"}


def test_each_deviation_is_seen(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged")
    right = state_of(one)
    for change, expected in (
        ({"capabilities": right.capabilities - {"NET_ADMIN"}}, ("NET_ADMIN", True)),
        ({"capabilities": right.capabilities | {"SYS_BOOT"}}, ("SYS_BOOT", False)),
        ({"seccomp": True}, ("seccomp", True)),
        ({"host_cgroups": False}, ("cgroup namespace", True)),
        ({"masked": frozenset({"/proc/kcore"})}, ("systempaths", True)),
        ({"devices": frozenset({"/dev/kvm"})}, ("/dev/net/tun", True)),
        ({"mounts": frozenset({"/sys/fs/cgroup"})}, ("/host-procsys", True)),
    ):
        assert differences(one, dataclasses.replace(right, **change)) == [expected]


def test_privileged_means_every_capability_of_the_kernel(contract: Contract) -> None:
    one = mode.from_contract(contract, "privileged")
    lacking = dataclasses.replace(state_of(one), capabilities=frozenset(CAPABILITIES) - {"SYS_RESOURCE"})
    assert differences(one, lacking) == [("SYS_RESOURCE", True)]


def test_an_older_engine_does_not_know_the_newest_capabilities(contract: Contract) -> None:
    one = mode.from_contract(contract, "privileged")
    older = dataclasses.replace(state_of(one), capabilities=frozenset(CAPABILITIES) - {"PERFMON", "BPF"})
    assert differences(one, older) == []


def test_a_container_is_confined_by_the_profile_that_was_asked_for(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged-apparmor")
    for label, found in (("libvirt-container (enforce)", []), ("docker-default (enforce)", [("apparmor", False)])):
        state = dataclasses.replace(state_of(one), label=label)
        assert differences(one, state, security=["apparmor"]) == found


def test_apparmor_is_looked_at_only_where_the_engine_uses_it(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged")
    assert differences(one, state_of(one), security=["apparmor"]) == [("apparmor", False)]
    confined = dataclasses.replace(state_of(one), label="docker-default (enforce)")
    assert differences(one, confined, security=["apparmor"]) == []
    assert differences(
        mode.from_contract(contract, "privileged"),
        dataclasses.replace(state_of(mode.from_contract(contract, "privileged")), label="docker-default (enforce)"),
        security=["apparmor"],
    ) == [("apparmor", True)]


def test_selinux_confines_what_is_not_told_otherwise(contract: Contract) -> None:
    confined, free = "system_u:system_r:container_t:s0:c1,c2", "system_u:system_r:spc_t:s0"
    for mode_id, label, other in (("unprivileged", confined, free), ("unprivileged-unlabelled", free, confined)):
        one = mode.from_contract(contract, mode_id)
        assert differences(one, dataclasses.replace(state_of(one), label=label), security=["selinux"]) == []
        wrong = dataclasses.replace(state_of(one), label=other)
        assert differences(one, wrong, security=["selinux"]) == [("selinux", label == free)]
        assert differences(one, wrong) == []
