"""The doctor's findings for simulated machines."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import docker.errors
import pytest
from typer.testing import CliRunner

from conformance.cli import main
from conformance.doctor import diagnosis, examination, requirements, survey, terminal
from conformance.doctor.finding import Finding, Inspection, Report
from conformance.doctor.survey import Survey
from conformance.engine import base_image, image, local_daemon
from conformance.engine.client import Engine
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.image import ImageInfo
from conformance.errors import EngineError
from conformance.host import kvm as accel
from conformance.host.kvm import HostKvm
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.model.contract import Contract
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.util import apt, namespaces, paths

WELL = Survey(
    lacking=frozenset(),
    refused=False,
    security=("apparmor",),
    cgroup_version=2,
    undelegated=False,
    virtualization="svm",
    iommu_groups=6,
    libvirt=(),
    devices={"/dev/kvm": "opens", "/dev/net/tun": "opens"},
    links={"bridge": "made", "macvtap": "made"},
)
DEBIAN = {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}
INFO = {"CgroupVersion": "2", "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"]}
IMAGE = ImageInfo("libvirt-conformance:latest", "sha256:0", "debian", "")


class Registry:
    """The part of an engine's client that reaches a registry."""

    def __init__(self, *, reaches: bool) -> None:
        self.images = self
        self._reaches = reaches

    def get_registry_data(self, _tag: str) -> str:
        if not self._reaches:
            raise docker.errors.APIError("no route")
        return "there"


@pytest.fixture
def inspection(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    """A machine with everything."""
    monkeypatch.setattr(requirements, "_missing", lambda _command: [])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: DEBIAN)
    engine = Engine(Registry(reaches=True), "tcp://kvm.example:2376", INFO, "docker 26.1.5")  # type: ignore[arg-type]
    return Inspection(contract, engine, None, IMAGE, WELL, HostKvm(True, "bare QEMU booted a kernel under KVM"))


def report(inspection: Inspection) -> Report:
    recommendation = inspection.contract.recommendation(" ".join(inspection.security))
    return Report(diagnosis.all_of(inspection), recommendation, tuple(inspection.modes))


def find(inspection: Inspection, name: str) -> Finding:
    (one,) = [one for one in diagnosis.all_of(inspection) if one.id == name]
    return one


def seen(inspection: Inspection, **changes: Any) -> Inspection:
    kvm = inspection.kvm if "devices" not in changes else None
    return dataclasses.replace(inspection, survey=dataclasses.replace(WELL, **changes), kvm=kvm)


def test_everything_can_be_tested_on_a_complete_machine(inspection: Inspection) -> None:
    assert {one.id: one.state for one in report(inspection).findings if one.state != "OK"} == {"user-namespaces": "N/A"}
    assert report(inspection).everything_runs
    assert not report(inspection).nothing_runs


MACVTAP = "unprivileged-macvtap unprivileged-macvtap-hostnet"
HOSTNET = "unprivileged-hostnet unprivileged-macvtap-hostnet"
PRIVILEGED = "privileged privileged-passthrough"


@pytest.mark.parametrize(
    ("changes", "name", "state", "features", "modes", "remedy"),
    [
        ({"devices": {"/dev/kvm": "absent"}}, "kvm", "MISSING", "kvm exposures", "", "modprobe kvm_amd"),
        ({"devices": {"/dev/kvm": "absent"}, "virtualization": ""}, "kvm", "MISSING", "kvm exposures", "", "firmware"),
        ({"devices": {"/dev/kvm": "Permission denied"}}, "kvm", "MISSING", "kvm exposures", "", "modprobe kvm_amd"),
        ({"devices": {}}, "kvm", "N/A", "kvm", "", "./run matrix"),
        ({"devices": {"/dev/net/tun": "absent"}}, "tun", "MISSING", "virtio-net nat exposures", "", "modprobe tun"),
        ({"devices": {}}, "tun", "N/A", "virtio-net nat exposures", "", ""),
        (
            {"links": {"bridge": "Operation not supported"}},
            "bridge",
            "MISSING",
            "defaults virtio-net nat",
            "",
            "modprobe",
        ),
        ({"links": {"macvtap": "Unknown device type"}}, "macvtap", "MISSING", "macvlan", MACVTAP, "modprobe macvtap"),
        ({"links": {"macvtap": "Operation not permitted"}}, "macvtap", "N/A", "macvlan", MACVTAP, ""),
        ({"links": {}}, "macvtap", "N/A", "macvlan", MACVTAP, ""),
        (
            {"lacking": frozenset({"SYS_RESOURCE"})},
            "privileged",
            "MISSING",
            "",
            "privileged least-tuned unprivileged-passthrough privileged-passthrough",
            "root",
        ),
        (
            {"lacking": frozenset({"NET_RAW"})},
            "privileged",
            "MISSING",
            "",
            " ".join(one.id for one in contracts.load().modes),
            "root",
        ),
        ({"lacking": None}, "privileged", "N/A", "", PRIVILEGED, "./run matrix"),
        ({"libvirt": ("link virbr0",)}, "libvirt", "MISSING", "", HOSTNET, "systemctl stop"),
    ],
)
def test_a_finding_lists_the_features_and_modes_that_cannot_be_tested(
    inspection: Inspection,
    changes: dict[str, Any],
    name: str,
    state: str,
    features: str,
    modes: str,
    remedy: str,
) -> None:
    impaired = seen(inspection, **changes)
    one = find(impaired, name)
    assert (one.state, one.features, {*one.modes}) == (state, tuple(features.split()), {*modes.split()})
    assert remedy in one.remedy
    assert not report(impaired).everything_runs
    assert not report(impaired).nothing_runs


def test_a_kvm_that_boots_no_kernel_is_unusable(inspection: Inspection) -> None:
    one = find(dataclasses.replace(inspection, kvm=HostKvm(False, "KVM internal error")), "kvm")
    assert (one.state, one.seen) == ("MISSING", "KVM internal error")
    untried = find(dataclasses.replace(inspection, kvm=None), "kvm")
    assert untried.state == "N/A"
    assert "not tried" in untried.seen


@pytest.mark.parametrize(
    ("name", "refused", "means"),
    [
        ("docker 20.10.24+dfsg1", False, "refuses privileged"),
        ("docker 26.1.5", True, "refuses privileged"),
        ("docker 26.1.5", False, "lack"),
    ],
)
def test_engines_refuse_or_reduce_privileged_containers(
    inspection: Inspection, name: str, refused: bool, means: str
) -> None:
    assert inspection.engine
    impaired = seen(inspection, lacking=frozenset({"SYS_RESOURCE"}), refused=refused)
    impaired = dataclasses.replace(impaired, engine=dataclasses.replace(inspection.engine, name=name))
    assert means in find(impaired, "privileged").means


def test_without_apparmor_there_is_nothing_to_be_unconfined_by(inspection: Inspection) -> None:
    assert inspection.engine
    bare = dataclasses.replace(inspection, engine=dataclasses.replace(inspection.engine, info={"CgroupVersion": "1"}))
    one = find(bare, "security")
    assert (one.state, one.seen) == ("MISSING", "none; neither AppArmor nor SELinux")
    assert {*one.modes} == {
        "unprivileged-unconfined",
        "unprivileged-unlabelled",
        "unprivileged-apparmor",
        "least-apparmor",
    }


def test_lost_cgroup_delegation_has_a_remedy(inspection: Inspection) -> None:
    one = find(dataclasses.replace(inspection, survey=dataclasses.replace(WELL, undelegated=True)), "cgroup")
    assert (one.state, one.seen) == ("OK", "version 2, mounted without nsdelegate")
    assert one.remedy.endswith("mount -o remount,memory_recursiveprot,nsdelegate /sys/fs/cgroup")
    assert find(inspection, "cgroup").remedy == ""


def test_without_an_iommu_no_device_can_be_given_to_a_guest(inspection: Inspection) -> None:
    one = find(seen(inspection, iommu_groups=0), "iommu")
    assert (one.state, one.features, one.modes) == ("MISSING", ("pci-passthrough",), ("unprivileged-passthrough",))
    assert "intel_iommu=on" in one.remedy
    assert "--pci-device" in find(inspection, "iommu").means


def test_findings_that_need_an_image_stay_unknown(inspection: Inspection) -> None:
    empty = dataclasses.replace(inspection, image=None, survey=None, kvm=None)
    states = {one.id: one.state for one in diagnosis.all_of(empty)}
    assert {name for name, state in states.items() if state == "N/A"} == {
        "privileged", "kvm", "tun", "bridge", "macvtap", "iommu", "libvirt", "user-namespaces",
    }  # fmt: skip
    assert "pull" in find(empty, "base").seen


def test_without_a_registry_a_base_needs_debian_packages(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inspection.engine
    engine = dataclasses.replace(inspection.engine, client=Registry(reaches=False))  # type: ignore[arg-type]
    alone = dataclasses.replace(inspection, image=None, engine=engine)
    monkeypatch.setattr("shutil.which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(apt, "mirrors", lambda: [apt.Mirror("http://deb/")])
    assert find(alone, "base").state == "OK"
    monkeypatch.setattr("shutil.which", lambda _program: None)
    assert find(alone, "base").state == "MISSING"
    assert report(alone).nothing_runs


@pytest.fixture
def nobody(inspection: Inspection) -> Inspection:
    """A machine without an engine."""
    refusal = NoEngineError("no engine: the socket does not exist", "start one")
    return dataclasses.replace(inspection, engine=None, refusal=refusal, image=None)


def test_where_none_answers_a_private_engine_is_promised_only_where_it_starts(
    nobody: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    monkeypatch.setattr(local_daemon, "require_startable", lambda: None)
    assert find(nobody, "engine").state == "OK"
    assert find(nobody, "rights").state == "OK"

    def refuse() -> None:
        raise EngineError("dockerd is not installed", "install it")

    monkeypatch.setattr(local_daemon, "require_startable", refuse)
    one = find(nobody, "engine")
    assert (one.state, one.remedy) == ("MISSING", "install it")
    assert report(nobody).nothing_runs


def test_an_engine_that_was_chosen_and_does_not_answer_is_not_replaced(
    nobody: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://kvm.example:2376")
    monkeypatch.setattr(local_daemon, "require_startable", None)
    one = find(nobody, "engine")
    assert (one.state, one.remedy) == ("MISSING", "start one")


def test_a_user_without_an_engine_cannot_run_anything(nobody: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    assert find(nobody, "rights").state == "MISSING"
    assert report(nobody).nothing_runs


@pytest.mark.parametrize(("user", "state", "word"), [(0, "OK", "will install"), (65534, "MISSING", "missing")])
def test_root_installs_packages_and_others_get_a_list(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch, user: int, state: str, word: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr(requirements, "_missing", lambda _command: ["gcc", "mmdebstrap"])
    one = find(inspection, "packages-lab")
    assert one.state == state
    assert word in one.seen
    assert one.seen.endswith(": gcc mmdebstrap")
    monkeypatch.setattr(requirements, "_missing", lambda _command: None)
    assert find(inspection, "packages-lab").state == "N/A"


def test_a_full_disk_stops_everything(inspection: Inspection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    monkeypatch.setattr(requirements, "FREE_BYTES", 2**60)
    assert "are needed" in find(inspection, "disk").seen
    assert report(inspection).nothing_runs
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot be made" in find(inspection, "disk").seen


# ------------------------------------------------------------------------------- a user without the engine


@pytest.fixture
def refused(inspection: Inspection, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    """A machine whose engine's socket this user may not open."""
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    monkeypatch.setattr(namespaces, "refusal", lambda: None)
    refusal = EngineError("permission denied: this user may not open the socket", "usermod")
    return dataclasses.replace(inspection, engine=None, image=None, kvm=None, refusal=refusal)


def test_without_rights_on_the_socket_the_machine_is_examined(
    refused: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = {"/dev/kvm": "Permission denied", "/dev/net/tun": "opens"}
    here = dataclasses.replace(WELL, devices=denied, links={}, modules=frozenset({"bridge"}), security=("apparmor",))
    found = {one.id: one for one in diagnosis.all_of(dataclasses.replace(refused, survey=here))}
    assert (found["engine"].state, found["engine"].remedy) == ("MISSING", "usermod")
    assert {name: found[name].state for name in ("kvm", "tun", "bridge", "macvtap", "cgroup", "user-namespaces")} == {
        "kvm": "N/A", "tun": "OK", "bridge": "OK", "macvtap": "N/A", "cgroup": "OK", "user-namespaces": "OK",
    }  # fmt: skip
    assert "apparmor" in found["security"].seen
    assert report(dataclasses.replace(refused, survey=here)).mode is not None


def test_a_socket_of_this_machine_leads_to_its_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert examination._survey(None, None, "run") is not None
    monkeypatch.setenv("DOCKER_HOST", "ssh://root@kvm.example")
    assert examination._survey(None, None, "run") is None


@pytest.mark.parametrize(
    ("node", "boots", "passed"), [("absent", None, False), ("opens", False, False), ("opens", True, True)]
)
def test_the_command_leaves_out_a_kvm_that_cannot_be_used(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, node: str, boots: bool | None, passed: bool
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(survey, "here", lambda: dataclasses.replace(WELL, devices={"/dev/kvm": node}))
    monkeypatch.setattr(examination, "_boot", lambda *_: None if boots is None else HostKvm(boots, "tried"))
    found = examination.examine(contract, lambda _: None).mode
    assert found is not None
    assert ("/dev/kvm" in found.devices) is passed
    assert "/dev/net/tun" in found.devices


@pytest.mark.parametrize("node", ["absent", "opens"])
@pytest.mark.parametrize(
    ("security", "chosen"),
    [("apparmor", "least-apparmor"), ("selinux", "unprivileged-unlabelled"), ("seccomp", "least")],
)
def test_without_a_usable_kvm_the_mode_to_use_is_still_one_of_the_contract(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, security: str, chosen: str, node: str
) -> None:
    here = dataclasses.replace(WELL, devices={"/dev/kvm": node, "/dev/net/tun": "opens"}, security=(security,))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(survey, "here", lambda: here)
    monkeypatch.setattr(examination, "_boot", lambda *_: HostKvm(False, "no guest kernel boots with it"))
    found = examination.examine(contract, lambda _: None)
    assert [one.id for one in found.modes] == [claims.id for claims in contract.modes]
    assert found.mode is not None
    assert found.mode.id == chosen
    *_, test, _lab = [line for line in terminal.conclusion(found, 80) if paths.COMMAND in line]
    assert test.endswith(f"{paths.COMMAND} smoke"), "the recommended mode needs no --mode"


def test_a_mode_that_the_engine_blocks_is_not_used_without_kvm_either(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = dataclasses.replace(WELL, devices={"/dev/kvm": "absent"}, security=(), lacking=frozenset({"NET_RAW"}))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setattr(survey, "here", lambda: blocked)
    assert examination.examine(contract, lambda _: None).mode is None


def test_a_restriction_of_user_namespaces_has_its_setting_as_a_remedy(
    refused: Inspection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    monkeypatch.setattr(namespaces, "OWN_ROOT", ("false",))
    monkeypatch.setattr(namespaces, "SETTINGS", tmp_path)
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns").write_text("1\n")
    one = find(refused, "user-namespaces")
    assert (one.state, one.remedy) == ("MISSING", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    assert "AppArmor" in one.seen


@pytest.mark.parametrize(
    ("release", "state", "word"),
    [
        (DEBIAN, "OK", "bookworm"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04", "PRETTY_NAME": "Ubuntu 24.04.3 LTS"}, "N/A", "untested on Ubuntu"),
        ({"ID": "fedora", "NAME": "Fedora Linux"}, "N/A", "tested on Debian"),
    ],
)
def test_other_systems_than_debian_are_named_as_untested(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch, release: dict[str, str], state: str, word: str
) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    one = find(inspection, "system")
    assert one.state == state
    assert word in f"{one.seen} {one.means}"


# ------------------------------------------------------------------------------------- the command


KVM = Finding("kvm", "KVM", "MISSING", "there is none", "guests are emulated", "modprobe", ("kvm",), ("privileged",))


def made(contract: Contract, *findings: Finding, security: str = "") -> Report:
    modes = tuple(mode.from_contract(contract, claims.id) for claims in contract.modes)
    return Report(findings, contract.recommendation(security), modes)


@pytest.mark.parametrize(
    ("finding", "chosen", "status"),
    [
        (KVM, "least", 0),
        (dataclasses.replace(KVM, state="N/A", modes=("least",)), "least", 0),
        (dataclasses.replace(KVM, modes=("least",)), "least-apparmor", 1),
        (dataclasses.replace(KVM, vital=True), "least", 6),
    ],
)
def test_the_exit_status_is_that_of_the_recommended_mode(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, finding: Finding, chosen: str, status: int
) -> None:
    monkeypatch.setattr(examination, "examine", lambda *_: made(contract, finding))
    result = CliRunner().invoke(main.app, ["doctor", "--json"])
    assert result.exit_code == status
    assert status in (0, 1, EXIT_CANNOT_RUN)
    printed = json.loads(result.stdout)
    assert (printed["mode"], printed["recommended"]) == (chosen, "least")
    assert "docker run --detach" in printed["command"]
    assert printed["findings"][0]["remedy"] == "modprobe"


@pytest.mark.parametrize(
    ("security", "chosen"),
    [("apparmor seccomp", "least-apparmor"), ("selinux seccomp", "unprivileged-unlabelled"), ("seccomp", "least")],
)
def test_the_mode_to_use_is_the_one_for_this_kind_of_host(contract: Contract, security: str, chosen: str) -> None:
    found = made(contract, security=security).mode
    assert found is not None
    assert found.id == chosen


def test_findings_are_printed_with_remedies_and_the_command_at_80_columns(
    contract: Contract, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    long = Finding("disk", "Disk", "OK", f"{'word ' * 30}/a/{'long/' * 20}path")
    terminal.show(made(contract, KVM, long))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "MISSING  KVM: there is none",
        "         guests are emulated",
        "         cannot test: kvm, mode privileged",
        "         what to do: modprobe",
    ]
    assert "         " + long.seen.rpartition(" ")[2] in lines, "a path was broken"
    assert max(len(line) for line in lines if "/long/" not in line) <= 80
    assert lines[lines.index("") + 1].startswith("Use mode least")
    assert any(line.startswith("docker run") for line in lines)
    assert not any(" -- " in line for line in lines)


@pytest.mark.parametrize(
    ("tag", "private", "builds"),
    [
        ("", False, "docker build --tag libvirt-conformance:latest "),
        (base_image.BASE, False, "docker build --tag libvirt-conformance:latest "),
        (base_image.MADE_BASE, False, f"--build-arg BASE_IMAGE={base_image.MADE_BASE} "),
        (image.TAG, False, ""),
        (image.TAG, True, "systemctl start docker"),
        ("", True, "systemctl start docker"),
    ],
)
def test_the_commands_lead_to_an_image_on_an_engine_that_keeps_running(
    contract: Contract, tag: str, private: bool, builds: str
) -> None:
    found = dataclasses.replace(made(contract, security="seccomp"), image=tag, private=private)
    lines = terminal.conclusion(found, 80)
    before = "\n".join(lines[: next(at for at, line in enumerate(lines) if line.startswith("docker run"))])
    assert builds in before
    assert ("BASE_IMAGE" in before) == (tag == base_image.MADE_BASE)
    assert ("docker build" in before) == builds.startswith(("docker", "--"))


@pytest.mark.parametrize(("address", "private"), [("unix:///var/run/docker.sock", True), ("tcp://h:2375", False)])
def test_an_engine_that_the_user_did_not_choose_is_private(
    contract: Contract, inspection: Inspection, monkeypatch: pytest.MonkeyPatch, address: str, private: bool
) -> None:
    assert inspection.engine
    engine = dataclasses.replace(inspection.engine, host="unix:///cache/engine/docker.sock" if private else address)
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setattr(examination, "_engine", lambda: (engine, None))
    monkeypatch.setattr(image, "find", lambda *_: IMAGE)
    monkeypatch.setattr(examination, "_survey", lambda *_: WELL)
    monkeypatch.setattr(examination, "_boot", lambda *_: None)
    assert examination.examine(contract, lambda _: None).private == private


@pytest.mark.parametrize("chosen", [False, True])
def test_where_no_engine_answers_a_run_would_start_a_private_one_unless_the_user_chose_another(
    monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if chosen:
        monkeypatch.setenv("DOCKER_HOST", "tcp://kvm.example:2376")
    assert examination._is_private(None, NoEngineError("no engine", "start one")) is not chosen
    assert not examination._is_private(None, EngineError("permission denied", "join the group"))


def test_where_nothing_runs_yet_the_mode_is_named_for_later(contract: Contract) -> None:
    heading, *_ = terminal.conclusion(made(contract, dataclasses.replace(KVM, vital=True)), 80)
    assert "MISSING" in heading
    assert "least" in heading
    assert terminal.conclusion(Report((KVM,)), 80) == ["No mode can run on this machine: see MISSING above."]


@pytest.mark.parametrize("no_color", [False, True])
def test_there_are_colours_unless_they_are_not_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal.show(Report((Finding("kvm", "KVM", "MISSING", "there is none"),)))
    assert ("\x1b[1;31m" in capsys.readouterr().out) is not no_color


# ------------------------------------------------------------------------------ a kernel under bare KVM


@pytest.mark.parametrize(
    ("says", "usable"),
    [
        ("[    0.000000] Hypervisor detected: KVM", True),
        ("Could not access KVM kernel module: No such file or directory", False),
        ("qemu: Assertion failed", False),
    ],
)
def test_a_kernel_reports_its_hypervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, usable: bool
) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(accel, "QEMU", str(program))
    assert accel.boot_here(Path("/boot/vmlinuz"), seconds=60).usable is usable


def test_a_silent_kernel_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(accel, "QEMU", str(program))
    assert not accel.boot_here(Path("/boot/vmlinuz"), seconds=0.2).usable
