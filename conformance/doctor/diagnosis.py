"""What follows from what was seen of a machine: one finding for each thing that modes and features need."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace

import docker.errors
import requests

from conformance.doctor.finding import Finding, Inspection
from conformance.engine import image, local_daemon
from conformance.engine.client import Engine
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.docker_context import address
from conformance.errors import EngineError, HarnessError
from conformance.host import cgroup_options
from conformance.host.pci import NO_IOMMU
from conformance.model.mode import MODULES, Mode, without_module
from conformance.util import apt, paths
from conformance.util.wait import DeadlineExpired, within

REGISTRY_SECONDS = 10

FREE_BYTES = 4 * 2**30
"""As much as ./run wants to be free before it begins."""

STARTS_WITHOUT_ALL = 23
"""Docker's first version whose --privileged is all that there is; before, it refuses where something lacks."""

LAB = "or use a machine that has everything: ./run matrix --host lab"

ASKED_LATER = "./run matrix asks it"


def all_of(patient: Inspection) -> tuple[Finding, ...]:
    """Return every finding, in the order in which they are worth reading."""
    return (
        _engine(patient),
        _rights(patient),
        _cgroup(patient),
        _security(patient),
        _privileged(patient),
        _kvm(patient),
        _tun(patient),
        *_links(patient),
        _iommu(patient),
        _other_libvirt(patient),
        _base(patient),
        _disk(),
        *_packages(patient),
    )


# ------------------------------------------------------------------------------------------------- engine


def _engine(patient: Inspection) -> Finding:
    found = Finding("engine", "Container engine", "yes", "", vital=True)
    if patient.engine:
        where = patient.engine.host + ("" if patient.engine.local else ", another machine's")
        return replace(found, seen=f"{patient.engine.name} at {where}")
    assert patient.refusal  # noqa: S101  - without an engine there is one
    if isinstance(patient.refusal, NoEngineError) and not address()[1]:
        try:
            local_daemon.require_startable()
        except EngineError as error:
            return replace(found, state="no", seen=f"{patient.refusal.message}; {error.message}", remedy=error.remedy)
        return replace(found, seen="none answers; ./run matrix starts a private one, and stops it at the end")
    return replace(found, state="no", seen=patient.refusal.message, remedy=patient.refusal.remedy)


def _rights(patient: Inspection) -> Finding:
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "root"
    found = Finding("rights", "Rights", "yes", f"this is {user}")
    if patient.engine:
        return replace(found, seen=f"{found.seen}, who may use the engine, and so is as good as root on its machine")
    if os.geteuid() == 0:
        return found
    return replace(
        found,
        state="no",
        means="a private engine cannot be started",
        remedy=f"become root, or start the system's engine: sudo systemctl start docker; {LAB}",
        vital=True,
    )


def _cgroup(patient: Inspection) -> Finding:
    version = int(patient.engine.info.get("CgroupVersion") or 0) if patient.engine else 0
    version = version or (patient.survey.cgroup_version if patient.survey else 0)
    found = Finding("cgroup", "Control groups", "yes", f"version {version}")
    if not version:
        return replace(found, state="unknown", seen="the engine does not say which version")
    if patient.survey and patient.survey.cgroup_version == version and patient.survey.undelegated:
        return replace(
            found,
            seen=f"{found.seen}, mounted without {cgroup_options.KEEPS_NAMESPACES}",
            means="containers may do more in their control groups than on other hosts: systemd mounts them with it, and"
            " a container with --cgroupns=host takes it from the host",
            remedy=f"there, as root: {cgroup_options.remount(cgroup_options.USUAL)}",
        )
    return found


def _security(patient: Inspection) -> Finding:
    found = Finding("security", "Security modules", "yes", "")
    if patient.engine:
        names = sorted(patient.engine.fingerprint().security)
    elif patient.survey:
        names = ["apparmor"] if patient.survey.apparmor else []
    else:
        return replace(found, state="unknown", seen="there is no engine to ask")
    absent = [module for module in MODULES if module not in names]
    equal = patient.those(lambda one: any(without_module(patient.contract, one, module) for module in absent))
    seen = ", ".join(names) or "none"
    if len(absent) < len(MODULES):
        # A kernel has one of them: what only the other one obeys is asked on another machine.
        means = f"containers are confined unless a mode says otherwise; not modes of their own here: {', '.join(equal)}"
        return replace(found, seen=seen, means=means)
    return replace(
        found,
        state="no",
        seen=f"{seen}; neither {' nor '.join(MODULES.values())}",
        means="no mode differs from another by its confinement alone",
        remedy=f"boot a kernel with AppArmor, install the package apparmor, and start the engine again; {LAB}",
        modes=equal,
    )


LIFTS_LIMITS = frozenset({"SYS_RESOURCE"})
"""What an engine's root needs to lift a limit of a container (setrlimit(2)); the container itself does not get it."""


def _taken(one: Mode) -> frozenset[str]:
    """Return the capabilities that an engine's root needs to start a container in a mode that is not privileged."""
    return one.granted | LIFTS_LIMITS if one.unlimited else one.granted


def _privileged(patient: Inspection) -> Finding:
    found = Finding("privileged", "--privileged", "yes", "starts", modes=patient.those(lambda one: one.privileged))
    seen = patient.survey
    if seen is None or seen.lacking is None:
        return replace(found, state="unknown", seen=_unseen(patient), remedy=ASKED_LATER)
    if not seen.lacking and not seen.refused:
        return found
    lacking = seen.lacking
    names = ", ".join(sorted(lacking)) or "an unknown capability"
    name = patient.engine.name if patient.engine else ""
    version = re.match(r"docker (\d+)", name)
    refused = seen.refused or (version is not None and int(version[1]) < STARTS_WITHOUT_ALL)
    return replace(
        found,
        state="no",
        seen=f"the engine's own root lacks {names}",
        means="the engine does not start it" if refused else "it gives less than the mode declares",
        remedy=f"run the engine as a root with every capability, not in a container; {LAB}",
        # A mode that is to have what is lacking gets less than it declares, too.
        modes=patient.those(lambda one: one.privileged or bool(lacking & _taken(one))),
    )


def _unseen(patient: Inspection) -> str:
    if patient.survey:
        return "this user cannot try it"
    if patient.engine:
        return "the engine has no image yet to look with"
    return "there is no engine to ask"


# ------------------------------------------------------------------------------------------------- machine


def _kvm(patient: Inspection) -> Finding:
    found = Finding(
        "kvm",
        "KVM",
        "yes",
        "",
        means="guests run under KVM",
        features=("kvm",),
    )
    emulated = "guests are emulated: everything but KVM can be asked, and takes longer"
    node = patient.survey.devices.get("/dev/kvm", "") if patient.survey else ""
    if node and node != "opens":
        return replace(
            found,
            state="no",
            seen="there is no /dev/kvm" if node == "absent" else f"/dev/kvm cannot be opened: {node}",
            means=emulated,
            remedy=f"{_kvm_remedy(patient)}; {LAB}",
            features=("kvm", "exposures"),
        )
    answer = patient.kvm
    if answer is None:
        seen = "/dev/kvm opens; whether it runs a kernel was not tried" if node else _unseen(patient)
        return replace(found, state="unknown", seen=seen, means="", remedy=ASKED_LATER)
    if answer.usable:
        return replace(found, seen=answer.seen)
    return replace(
        found,
        state="no",
        seen=answer.seen,
        means=emulated,
        remedy="this KVM opens and does not work, as on some nested hosts: look for another kernel or another kind"
        f" of machine; {LAB}",
    )


def _kvm_remedy(patient: Inspection) -> str:
    assert patient.survey  # noqa: S101  - it said that there is no device
    module = {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(patient.survey.virtualization)
    if module:
        return f"load its module: sudo modprobe {module}"
    return "the processor offers no virtualization: switch it on in the firmware or, on a virtual machine, in its host"


def _tun(patient: Inspection) -> Finding:
    features = ("virtio-net", "nat", "exposures")
    found = Finding("tun", "TUN", "yes", "/dev/net/tun opens", features=features)
    node = patient.survey.devices.get("/dev/net/tun", "") if patient.survey else ""
    if node == "opens":
        return found
    if not node:
        return replace(found, state="unknown", seen=_unseen(patient))
    return replace(
        found,
        state="no",
        seen="there is no /dev/net/tun" if node == "absent" else f"/dev/net/tun cannot be opened: {node}",
        means="domains with a network interface do not start",
        remedy="load its module: sudo modprobe tun",
    )


def _links(patient: Inspection) -> Iterator[Finding]:
    for kind, title, features in (
        ("bridge", "Bridges", ("defaults", "virtio-net", "nat")),
        ("macvtap", "Macvtap", ("macvlan",)),
    ):
        modes = tuple(one.id for one in patient.modes if kind in one.drivers)
        found = Finding(kind, title, "yes", "the kernel makes one", features=features, modes=modes)
        answer = patient.survey.links.get(kind, "") if patient.survey else ""
        if answer == "made":
            yield found
        elif not answer or "not permitted" in answer.lower():
            yield replace(found, state="unknown", seen=_unseen(patient))
        else:
            yield replace(
                found,
                state="no",
                seen=f"the kernel makes none: {answer}",
                remedy=f"install the kernel's modules, and try: sudo modprobe {kind}",
            )


def _iommu(patient: Inspection) -> Finding:
    modes = patient.those(lambda one: one.vfio)
    found = Finding("iommu", "IOMMU", "yes", "", features=("pci-passthrough",), modes=modes)
    if patient.survey is None:
        return replace(found, state="unknown", seen=_unseen(patient))
    if patient.survey.iommu_groups:
        return replace(
            found,
            seen=f"{patient.survey.iommu_groups} groups",
            means="a spare device can be given to a guest: --pci-device ADDRESS",
        )
    return replace(
        found,
        state="no",
        seen="no groups",
        means="no device can be given to a guest",
        remedy=f"{NO_IOMMU}; {LAB}",
    )


def _other_libvirt(patient: Inspection) -> Finding:
    found = Finding("libvirt", "No other libvirt in the host's network", "yes", "none")
    if patient.survey is None:
        return replace(found, state="unknown", seen=_unseen(patient))
    if not patient.survey.libvirt:
        return found
    return replace(
        found,
        state="no",
        seen=", ".join(patient.survey.libvirt),
        means="in the host's network its default network may be in the way, and what a killed container leaves there"
        " cannot be told from its own",
        remedy="for as long as the matrix runs: sudo systemctl stop libvirtd virtqemud virtnetworkd",
        modes=patient.those(lambda one: one.host_network),
    )


# ----------------------------------------------------------------------------------------- what a run takes


def _base(patient: Inspection) -> Finding:
    found = Finding("base", "Image, or a base to build it on", "yes", "", vital=True)
    if patient.image:
        return replace(found, seen=f"the engine has {patient.image.tag}")
    if patient.engine and _registry(patient.engine):
        return replace(found, seen=f"the engine reaches a registry with {image.BASE}")
    if shutil.which("mmdebstrap") and apt.mirrors():
        return replace(found, seen="no registry was reached; a base is made from Debian packages")
    return replace(
        found,
        state="no" if patient.engine else "unknown",
        seen="no registry was reached, and none can be made from Debian packages",
        remedy=f"let the engine reach a registry, give it {image.BASE} (docker load), or install mmdebstrap",
    )


def _registry(engine: Engine) -> bool:
    try:
        within("the registry", lambda: engine.client.images.get_registry_data(image.BASE), seconds=REGISTRY_SECONDS)
    except (docker.errors.DockerException, requests.RequestException, DeadlineExpired):
        return False
    return True


def _disk() -> Finding:
    found = Finding("disk", "Disk space", "yes", "", vital=True)
    try:
        folder = paths.cache()
        free = shutil.disk_usage(folder).free
    except (HarnessError, OSError) as error:
        return replace(
            found,
            state="no",
            seen=str(error).partition("\n")[0],
            remedy="set CONFORMANCE_CACHE to a folder of your own",
        )
    seen = f"{free / 2**30:.1f} GiB free where the cache lies ({folder})"
    if free >= FREE_BYTES:
        return replace(found, seen=seen)
    wanted = f"{FREE_BYTES / 2**30:.0f} GiB"
    return replace(
        found,
        state="no",
        seen=f"{seen}; {wanted} are needed",
        remedy="make room, or set CONFORMANCE_CACHE to another disk",
    )


def _packages(patient: Inspection) -> Iterator[Finding]:
    if paths.CHECKOUT is None:  # ./run, which installs packages, is the repository's
        return
    for command, title, vital in (("matrix", "Debian packages", True), ("lab", "Debian packages of the lab", False)):
        found = Finding(f"packages-{command}", title, "yes", "all are installed")
        missing = _missing(command)
        if missing is None:
            yield replace(
                found, state="unknown", seen="this is no Debian", remedy=f"see what {paths.PROJECT / 'run'} installs"
            )
        elif not missing:
            yield found
        else:
            root = os.geteuid() == 0
            yield replace(
                found,
                state="yes" if root else "no",
                seen=f"{f'./run {command} will install' if root else 'missing'}: {' '.join(missing)}",
                means=f"./run {command} installs them, as root or through sudo",
                remedy="" if root else f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
                vital=vital and patient.engine is None,
            )


def _missing(command: str) -> Sequence[str] | None:
    """Return the packages that ./run would install for a command; None where that cannot be told."""
    try:
        done = subprocess.run(
            [str(paths.PROJECT / "run"), "packages", command], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split() if done.returncode == 0 else None
