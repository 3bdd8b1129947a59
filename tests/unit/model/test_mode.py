import dataclasses
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from conformance.errors import ContractError
from conformance.model import commands, mode
from conformance.model.contract import Contract
from conformance.model.mode import Mode
from conformance.util import paths

MODES = ["unprivileged", "unprivileged-hostnet", "privileged", "required-only", "least"]
MAJORS = {"macvtap": 246}
GROUP = "/dev/vfio/7"


def words(one: Mode) -> list[str]:
    return commands.docker_run(one, "libvirt:1")


@pytest.fixture(
    params=[
        *(*MODES, "unprivileged-macvtap", "unprivileged-macvtap-hostnet"),
        *("least-tuned", "unprivileged-passthrough", "privileged-passthrough"),
    ]
)
def one(request: pytest.FixtureRequest, contract: Contract) -> Mode:
    made = mode.from_contract(contract, request.param)
    return dataclasses.replace(made, majors=MAJORS, groups=(GROUP,) if made.vfio else ())


def test_the_documented_modes_are_in_the_contract(contract: Contract) -> None:
    assert {claims.id for claims in contract.modes} >= set(MODES)


def test_the_three_renderings_agree(one: Mode) -> None:
    call = one.engine_call("libvirt:1")["HostConfig"]
    line = words(one)
    service = yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]

    assert [f"--cap-add={name}" for name in call["CapAdd"] or []] == [w for w in line if w.startswith("--cap-add")]
    assert (call["CapAdd"] or []) == service.get("cap_add", [])
    devices = [d["PathOnHost"] for d in call["Devices"]]
    assert devices == [w[9:].replace("${VFIO_GROUP:?}", "7") for w in line if w.startswith("--device=")]
    assert [re.sub(r"\$\{VFIO_GROUP:\?[^}]*\}", "7", d) for d in service.get("devices", [])] == [
        f"{device}:{device}" for device in devices
    ]
    limits = {limit["Name"]: limit["Hard"] for limit in call["Ulimits"] or []}
    assert [f"--ulimit={name}={hard}" for name, hard in limits.items()] == [w for w in line if "--ulimit" in w]
    assert limits == service.get("ulimits", {})
    assert call["Privileged"] == ("--privileged" in line) == service.get("privileged", False)
    assert (call["NetworkMode"] == "host") == ("--network=host" in line) == (service.get("network_mode") == "host")
    assert (f"--cgroupns={call['CgroupnsMode']}" in line) == bool(call["CgroupnsMode"])
    assert call["CgroupnsMode"] == service.get("cgroup", "")
    for bind in call["Binds"]:
        assert f"--volume={bind}" in line
        assert bind in service["volumes"]


def test_a_rendered_container_starts_again_and_the_harnesss_own_does_not(one: Mode) -> None:
    service = yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]

    assert ("--restart=unless-stopped" in words(one)) == (service.get("restart") == "unless-stopped") == one.restarts
    assert not any("--restart" in word for word in commands.docker_run(one, "libvirt:1", restart=False))
    assert "RestartPolicy" not in one.engine_call("libvirt:1")["HostConfig"]


def test_only_a_container_that_outlives_a_reboot_starts_again(contract: Contract) -> None:
    assert [claims.id for claims in contract.modes if not mode.from_contract(contract, claims.id).restarts] == [
        "unprivileged-macvtap",
        "unprivileged-macvtap-hostnet",
        "unprivileged-passthrough",
    ]


def test_every_rendering_waits_for_all_that_the_image_does_when_it_is_stopped(one: Mode) -> None:
    def seconds(name: str, file: str) -> int:
        found = re.search(rf"\b{name}=(\d+)", (paths.IMAGE / file).read_text())
        assert found, name
        return int(found[1])

    libvirtd = "lib/daemon.bash"
    # A libvirtd that hangs is replaced before the guests shut down.
    needed = (
        seconds("STOP_PROBE_SECONDS", libvirtd) + seconds("START_SECONDS", libvirtd)
        + seconds("SHUTDOWN_TIMEOUT", "Dockerfile")
    )  # fmt: skip
    service = yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]

    waits = one.engine_call("libvirt:1")["StopTimeout"]

    assert needed < waits
    assert f"--stop-timeout={waits}" in words(one)
    assert service["stop_grace_period"] == f"{waits}s"


def test_the_api_is_published_on_the_loopback_address_only(one: Mode) -> None:
    if one.host_network:
        assert "--env=LISTEN_ADDRESS=127.0.0.1" in words(one)
        assert "LISTEN_ADDRESS=127.0.0.1" in one.engine_call("libvirt:1")["Env"]
    else:
        assert "--publish=127.0.0.1:16509:16509" in words(one)
        (binding,) = one.engine_call("libvirt:1")["HostConfig"]["PortBindings"]["16509/tcp"]
        assert binding["HostIp"] == "127.0.0.1"


def test_systempaths_becomes_empty_lists_in_the_api(contract: Contract) -> None:
    call = mode.from_contract(contract, "unprivileged").engine_call("libvirt:1")["HostConfig"]
    assert call["MaskedPaths"] == []
    assert call["ReadonlyPaths"] == []
    assert call["SecurityOpt"] == ["seccomp=unconfined"]


def test_required_only_has_what_is_documented_as_required(contract: Contract) -> None:
    required = {exposure.id for exposure in contract.exposures if exposure.documented == "required"}
    assert {exposure.id for exposure in mode.from_contract(contract, "required-only").exposures} == required


def test_the_health_check_stays_the_images_but_for_its_interval(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged")
    assert "Healthcheck" not in one.engine_call("libvirt:1")
    assert one.engine_call("libvirt:1", health_seconds=1.5)["Healthcheck"] == {"Interval": 1_500_000_000}


def test_an_empty_host_port_lets_the_engine_choose(contract: Contract) -> None:
    call = mode.from_contract(contract, "unprivileged").engine_call("libvirt:1", host_port=0)
    assert call["HostConfig"]["PortBindings"]["16509/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": ""}]


def test_a_drivers_number_is_looked_up_when_the_command_runs(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged-macvtap")

    with pytest.raises(KeyError):
        one.engine_call("libvirt:1")
    call = dataclasses.replace(one, majors=MAJORS).engine_call("libvirt:1")["HostConfig"]
    (rule,) = yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]["device_cgroup_rules"]

    assert call["DeviceCgroupRules"] == ["c 246:* rwm"]
    assert re.sub(r"\$\{MACVTAP_MAJOR:\?.*\}", "246", rule) == "c 246:* rwm"
    assert (
        mode.from_contract(contract, "privileged").engine_call("libvirt:1")["HostConfig"]["DeviceCgroupRules"] is None
    )


def test_a_shell_puts_a_drivers_number_into_the_rendered_line(contract: Contract) -> None:
    first, _, line = commands.script(mode.from_contract(contract, "unprivileged-macvtap"), "libvirt:1").partition("\n")
    stubs = (
        "modprobe() { echo loaded $1; }; grep() { false; }; awk() { echo 246; }; docker() { printf '%s\\n' \"$@\"; }"
    )

    done = subprocess.run(["sh", "-c", f"{stubs}\n{first}\n{line}"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("loaded macvtap\nrun\n")
    assert "--device-cgroup-rule=c 246:* rwm" in done.stdout.splitlines()


def test_the_lookup_finds_the_driver_and_nothing_else(contract: Contract) -> None:
    (word,) = [word for word in words(mode.from_contract(contract, "unprivileged-macvtap")) if "$(" in word]
    listed = "Character devices:\n 10 misc\n246 macvtap\n247 ipvtap\n"
    lookup = word[word.index("$(") : word.rindex(")") + 1].replace("/proc/devices", "-")

    done = subprocess.run(["sh", "-c", f'echo "{lookup}"'], input=listed, capture_output=True, text=True, check=True)

    assert done.stdout == "246\n"


def test_a_shell_binds_the_device_and_puts_its_group_into_the_rendered_line(contract: Contract, tmp_path: Path) -> None:
    driver = "bus/pci/drivers/virtio-pci"
    device = tmp_path / "bus/pci/devices/0000:00:04.0"
    for folder in (device, tmp_path / driver, tmp_path / "kernel/iommu_groups/7"):
        folder.mkdir(parents=True)
    (device / "driver").symlink_to(tmp_path / driver)
    (device / "iommu_group").symlink_to(tmp_path / "kernel/iommu_groups/7")
    script = commands.script(mode.from_contract(contract, "unprivileged-passthrough"), "libvirt:1").replace(
        "/sys/", f"{tmp_path}/"
    )
    stubs = "modprobe() { echo loaded $1; }; docker() { printf '%s\\n' \"$@\"; }\n"

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        words = ["sh", "-c", stubs + script]
        return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)

    assert "a spare PCI device" in run().stderr
    done = run(PCI="0000:00:04.0")

    assert done.stdout.startswith("loaded vfio-pci\nrun\n"), done.stderr
    assert {"--device=/dev/vfio/vfio", "--device=/dev/vfio/7", "--ulimit=memlock=-1"} <= {*done.stdout.splitlines()}
    assert (device / "driver_override").read_text() == "vfio-pci\n"
    for file in (tmp_path / driver / "unbind", tmp_path / "bus/pci/drivers_probe"):
        assert file.read_text() == "0000:00:04.0\n"


def test_passthrough_modes_have_few_exposures(contract: Contract) -> None:
    least, passing = (mode.from_contract(contract, name) for name in ("least", "unprivileged-passthrough"))
    privileged, managed = (mode.from_contract(contract, name) for name in ("privileged", "privileged-passthrough"))

    assert passing.granted == least.granted
    assert {one.id for one in passing.exposures} - {one.id for one in least.exposures} == {
        "dev-vfio",
        "vfio-group",
        "memlock",
    }
    assert [word for word in words(managed) if word not in words(privileged)] == [
        "--volume=/dev:/dev:rw",
        "--volume=/lib/modules:/lib/modules:ro",
    ]
    assert set(privileged.permissions) == {"/dev/kvm", "/dev/net/tun", "/proc/sys", "/sys/fs/cgroup"}
    assert managed.permissions == {**privileged.permissions, "/dev": "700", "/lib/modules": "500"}


def test_new_devices_appear_only_with_the_hosts_own_dev(contract: Contract) -> None:
    made = [mode.from_contract(contract, claims.id) for claims in contract.modes]
    assert [one.id for one in made if one.hosts_devices] == ["privileged-passthrough"]


def test_a_profile_is_loaded_before_the_container_is_made(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged-apparmor")
    first, _, line = commands.script(one, "libvirt:1").partition("\n")
    assert first == "apparmor_parser --replace image/apparmor/libvirt-container"
    assert "--security-opt=apparmor=libvirt-container" in line
    assert (paths.PROJECT / first.split()[-1]).is_file()
    assert mode.from_contract(contract, "unprivileged-unconfined").profile == ""


def test_words_are_quoted_for_a_shell() -> None:
    assert commands.shell(["docker", "run", "--env=A=b c", "image"]).endswith("'--env=A=b c' \\\n  image")


def test_a_removed_part_is_missing_in_every_rendering(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged", ["SYS_PTRACE", "sys-fs-cgroup", "namespaces"])

    assert one.id == "unprivileged-without-SYS_PTRACE-without-sys-fs-cgroup-without-namespaces"
    assert "--cap-add=SYS_PTRACE" not in words(one)
    assert "--cap-add=SYS_ADMIN" in words(one)
    assert "--cap-drop=ALL" not in words(one)
    assert not any("/sys/fs/cgroup" in word for word in words(one))
    assert "QEMU_NAMESPACES=off" in one.engine_call("libvirt:1")["Env"]


def test_a_hosts_command_leaves_out_kvm_and_keeps_the_modes_name(contract: Contract) -> None:
    for claims in contract.modes:
        there, without = (mode.for_host(contract, claims.id, kvm=kvm) for kvm in (True, False))
        assert there == mode.from_contract(contract, claims.id)
        assert without.id == claims.id
        assert "/dev/kvm" not in without.devices
        assert [one for one in without.exposures if one.id != mode.KVM] == [*without.exposures]
        assert len(there.exposures) - len(without.exposures) == ("/dev/kvm" in there.devices)


def test_without_a_default_capability_the_others_are_named(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged", ["MKNOD"])

    assert one.granted == mode.from_contract(contract, "unprivileged").granted - {"MKNOD"}
    assert one.engine_call("libvirt:1")["HostConfig"]["CapDrop"] == ["ALL"]
    assert {"--cap-drop=ALL", "--cap-add=CHOWN"} <= {*words(one)}
    assert yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]["cap_drop"] == ["ALL"]


def test_out_of_the_hosts_network_the_api_is_on_every_address_of_the_container(contract: Contract) -> None:
    one = mode.from_contract(contract, "unprivileged-hostnet", ["network-host"])
    assert not one.host_network
    assert "LISTEN_ADDRESS" not in one.environment


def test_only_parts_of_a_mode_can_be_removed(contract: Contract) -> None:
    with pytest.raises(ContractError, match="mode unprivileged has no 'apparmor'"):
        mode.from_contract(contract, "unprivileged", ["apparmor"])
    least = mode.removable(contract, contract.mode("least"))
    assert not {"MKNOD", "namespaces"} & {*least}
    assert {"CHOWN", "dev-kvm"} <= {*least}


def test_least_has_less_than_what_is_documented(contract: Contract) -> None:
    least, documented = mode.from_contract(contract, "least"), mode.from_contract(contract, "unprivileged-unconfined")
    documented_ids = {one.id for one in documented.exposures}
    assert all(one.id in documented_ids or one.documented == "default" for one in least.exposures)
    assert least.granted < documented.granted


def test_a_mode_that_differs_only_where_there_is_a_security_module_is_known(contract: Contract) -> None:
    def equal(mode_id: str, module: str) -> str:
        return mode.without_module(contract, mode.from_contract(contract, mode_id), module)

    assert equal("unprivileged-unconfined", "apparmor") == equal("unprivileged-apparmor", "apparmor") == "unprivileged"
    assert equal("unprivileged-unlabelled", "selinux") == "unprivileged"
    assert equal("unprivileged-unlabelled", "apparmor") == equal("unprivileged-unconfined", "selinux") == ""
    assert equal("unprivileged", "apparmor") == ""
    assert equal("least", "apparmor") == ""
    assert equal("least-apparmor", "apparmor") == "least"


def test_an_images_start_command_is_in_all_renderings(contract: Contract) -> None:
    theirs = contract.model_copy(update={"image": contract.image.model_copy(update={"command": ("start", "a b")})})
    one = mode.from_contract(theirs, "unprivileged")
    assert one.engine_call("libvirt:1")["Cmd"] == ["start", "a b"]
    assert commands.shell(words(one)).endswith("\\\n  libvirt:1 start 'a b'")
    assert yaml.safe_load(commands.compose(one, "libvirt:1"))["services"]["libvirt"]["command"] == ["start", "a b"]
    assert "Cmd" not in mode.from_contract(contract, "unprivileged").engine_call("libvirt:1")


def test_least_tuned_adds_only_the_tuning_exposures(contract: Contract) -> None:
    least, tuned = mode.from_contract(contract, "least"), mode.from_contract(contract, "least-tuned")
    assert {one.id for one in tuned.exposures} - {one.id for one in least.exposures} == {
        "memlock",
        "dev-hugepages",
        "SYS_NICE",
    }
    assert {one.id for one in least.exposures} < {one.id for one in tuned.exposures}
    assert tuned.environment == least.environment
