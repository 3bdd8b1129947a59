"""The diagnosis of a machine: one finding for each thing that modes and features need."""

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
from conformance.engine import local_daemon
from conformance.engine.base_image import BASE
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
"""./run requires this much free disk space."""

STARTS_WITHOUT_ALL = 23
"""From this version on, Docker starts --privileged containers although a capability is missing; older ones refuse."""

LAB = f"or test on a virtual machine that has everything: {paths.COMMAND} matrix --host lab"

TESTED_LATER = "./run matrix tests this"


def all_of(inspection: Inspection) -> tuple[Finding, ...]:
    """Return all findings in reading order."""
    return (
        _engine(inspection),
        _rights(inspection),
        _cgroup(inspection),
        _security(inspection),
        _privileged(inspection),
        _kvm(inspection),
        _tun(inspection),
        *_links(inspection),
        _iommu(inspection),
        _other_libvirt(inspection),
        _base(inspection),
        _disk(),
        *_packages(inspection),
    )


# ------------------------------------------------------------------------------------------------- engine


def _engine(inspection: Inspection) -> Finding:
    found = Finding("engine", "Container engine", "yes", "", vital=True)
    if inspection.engine:
        where = inspection.engine.host + ("" if inspection.engine.local else " on another machine")
        return replace(found, seen=f"{inspection.engine.name} at {where}")
    assert inspection.refusal  # noqa: S101  - set whenever there is no engine
    if isinstance(inspection.refusal, NoEngineError) and not address()[1]:
        try:
            local_daemon.require_startable()
        except EngineError as error:
            return replace(
                found, state="no", seen=f"{inspection.refusal.message}; {error.message}", remedy=error.remedy
            )
        return replace(found, seen="no engine answers; ./run matrix starts a private one and stops it at the end")
    return replace(found, state="no", seen=inspection.refusal.message, remedy=inspection.refusal.remedy)


def _rights(inspection: Inspection) -> Finding:
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "root"
    found = Finding("rights", "Rights", "yes", f"running as {user}")
    if inspection.engine:
        return replace(
            found, seen=f"{found.seen}, with access to the engine, which is equivalent to root on its machine"
        )
    if os.geteuid() == 0:
        return found
    return replace(
        found,
        state="no",
        means="cannot start a private engine",
        remedy=f"run as root, or start the system's engine: sudo systemctl start docker; {LAB}",
        vital=True,
    )


def _cgroup(inspection: Inspection) -> Finding:
    version = int(inspection.engine.info.get("CgroupVersion") or 0) if inspection.engine else 0
    version = version or (inspection.survey.cgroup_version if inspection.survey else 0)
    found = Finding("cgroup", "cgroups", "yes", f"version {version}")
    if not version:
        return replace(found, state="unknown", seen="the engine does not report its cgroup version")
    if inspection.survey and inspection.survey.cgroup_version == version and inspection.survey.undelegated:
        return replace(
            found,
            seen=f"{found.seen}, mounted without {cgroup_options.KEEPS_NAMESPACES}",
            means="containers can do more in their cgroups than on other hosts; systemd mounts cgroups with it,"
            " and a container with --cgroupns=host removes it from the host",
            remedy=f"as root on that host: {cgroup_options.remount(cgroup_options.USUAL)}",
        )
    return found


def _security(inspection: Inspection) -> Finding:
    found = Finding("security", "Security modules", "yes", "")
    if inspection.engine:
        names = sorted(inspection.engine.fingerprint().security)
    elif inspection.survey:
        names = ["apparmor"] if inspection.survey.apparmor else []
    else:
        return replace(found, state="unknown", seen="no engine answers")
    absent = [module for module in MODULES if module not in names]
    equal = inspection.mode_ids(lambda one: any(without_module(inspection.contract, one, module) for module in absent))
    seen = ", ".join(names) or "none"
    if len(absent) < len(MODULES):
        # A kernel has only one of them. Modes that differ by the other one need another machine.
        means = f"containers are confined unless a mode disables it; same as another mode here: {', '.join(equal)}"
        return replace(found, seen=seen, means=means)
    return replace(
        found,
        state="no",
        seen=f"{seen}; neither {' nor '.join(MODULES.values())}",
        means="modes that differ only in confinement are the same here",
        remedy=f"boot a kernel with AppArmor, install the package apparmor, and restart the engine; {LAB}",
        modes=equal,
    )


LIFTS_LIMITS = frozenset({"SYS_RESOURCE"})
"""Capabilities that the engine needs to raise a container's limit (setrlimit(2)); the container does not get them."""


def _taken(one: Mode) -> frozenset[str]:
    """Return the capabilities that the engine needs to start a container in an unprivileged mode."""
    return one.granted | LIFTS_LIMITS if one.unlimited else one.granted


def _privileged(inspection: Inspection) -> Finding:
    found = Finding(
        "privileged", "--privileged", "yes", "containers start", modes=inspection.mode_ids(lambda one: one.privileged)
    )
    seen = inspection.survey
    if seen is None or seen.lacking is None:
        return replace(found, state="unknown", seen=_unseen(inspection), remedy=TESTED_LATER)
    if not seen.lacking and not seen.refused:
        return found
    lacking = seen.lacking
    names = ", ".join(sorted(lacking)) or "an unknown capability"
    name = inspection.engine.name if inspection.engine else ""
    version = re.match(r"docker (\d+)", name)
    refused = seen.refused or (version is not None and int(version[1]) < STARTS_WITHOUT_ALL)
    return replace(
        found,
        state="no",
        seen=f"the engine itself lacks {names}",
        means="Docker refuses privileged containers" if refused else "privileged containers lack these capabilities",
        remedy=f"run the engine as root with every capability, not in a container; {LAB}",
        # Modes that name a missing capability do not get it either.
        modes=inspection.mode_ids(lambda one: one.privileged or bool(lacking & _taken(one))),
    )


def _unseen(inspection: Inspection) -> str:
    if inspection.survey:
        return "this user lacks the rights to test it"
    if inspection.engine:
        return "the engine has no image yet to test with"
    return "no engine answers"


# ------------------------------------------------------------------------------------------------- machine


def _kvm(inspection: Inspection) -> Finding:
    found = Finding(
        "kvm",
        "KVM",
        "yes",
        "",
        means="guests run under KVM",
        features=("kvm",),
    )
    emulated = "guests are emulated: everything except KVM can be tested, more slowly"
    node = inspection.survey.devices.get("/dev/kvm", "") if inspection.survey else ""
    if node and node != "opens":
        return replace(
            found,
            state="no",
            seen="/dev/kvm does not exist" if node == "absent" else f"/dev/kvm cannot be opened: {node}",
            means=emulated,
            remedy=f"{_kvm_remedy(inspection)}; {LAB}",
            features=("kvm", "exposures"),
        )
    answer = inspection.kvm
    if answer is None:
        seen = "/dev/kvm opens; booting a kernel was not tried" if node else _unseen(inspection)
        return replace(found, state="unknown", seen=seen, means="", remedy=TESTED_LATER)
    if answer.usable:
        return replace(found, seen=answer.seen)
    return replace(
        found,
        state="no",
        seen=answer.seen,
        means=emulated,
        remedy="use another host kernel or another type of machine (on some nested hosts /dev/kvm exists, but no guest"
        f" kernel boots with it); {LAB}",
    )


def _kvm_remedy(inspection: Inspection) -> str:
    assert inspection.survey  # noqa: S101  - it found no usable device
    module = {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(inspection.survey.virtualization)
    if module:
        return f"load the kernel module: sudo modprobe {module}"
    return "the processor offers no virtualization: enable it in the firmware or, on a virtual machine, on its host"


def _tun(inspection: Inspection) -> Finding:
    features = ("virtio-net", "nat", "exposures")
    found = Finding("tun", "TUN", "yes", "/dev/net/tun opens", features=features)
    node = inspection.survey.devices.get("/dev/net/tun", "") if inspection.survey else ""
    if node == "opens":
        return found
    if not node:
        return replace(found, state="unknown", seen=_unseen(inspection))
    return replace(
        found,
        state="no",
        seen="/dev/net/tun does not exist" if node == "absent" else f"/dev/net/tun cannot be opened: {node}",
        means="guests with a network interface do not start",
        remedy="load the kernel module: sudo modprobe tun",
    )


def _links(inspection: Inspection) -> Iterator[Finding]:
    for kind, title, features in (
        ("bridge", "Bridges", ("defaults", "virtio-net", "nat")),
        ("macvtap", "Macvtap", ("macvlan",)),
    ):
        modes = tuple(one.id for one in inspection.modes if kind in one.drivers)
        found = Finding(kind, title, "yes", "the kernel can create one", features=features, modes=modes)
        answer = inspection.survey.links.get(kind, "") if inspection.survey else ""
        if answer == "made":
            yield found
        elif not answer or "not permitted" in answer.lower():
            yield replace(found, state="unknown", seen=_unseen(inspection))
        else:
            yield replace(
                found,
                state="no",
                seen=f"the kernel cannot create one: {answer}",
                remedy=f"install the kernel's modules, then run: sudo modprobe {kind}",
            )


def _iommu(inspection: Inspection) -> Finding:
    modes = inspection.mode_ids(lambda one: one.vfio)
    found = Finding("iommu", "IOMMU", "yes", "", features=("pci-passthrough",), modes=modes)
    if inspection.survey is None:
        return replace(found, state="unknown", seen=_unseen(inspection))
    if inspection.survey.iommu_groups:
        return replace(
            found,
            seen=f"{inspection.survey.iommu_groups} IOMMU groups",
            means="PCI passthrough can be tested with a spare device: --pci-device ADDRESS",
        )
    return replace(
        found,
        state="no",
        seen="no IOMMU groups",
        means="PCI passthrough is not possible",
        remedy=f"{NO_IOMMU}; {LAB}",
    )


def _other_libvirt(inspection: Inspection) -> Finding:
    found = Finding("libvirt", "No other libvirt in the host's network", "yes", "none")
    if inspection.survey is None:
        return replace(found, state="unknown", seen=_unseen(inspection))
    if not inspection.survey.libvirt:
        return found
    return replace(
        found,
        state="no",
        seen=", ".join(inspection.survey.libvirt),
        means="its default network may conflict with the container's in the host's network, and leftovers of a killed"
        " container cannot be distinguished from its own interfaces",
        remedy="stop it while the matrix runs: sudo systemctl stop libvirtd virtqemud virtnetworkd",
        modes=inspection.mode_ids(lambda one: one.host_network),
    )


# ---------------------------------------------------------------------------------------- requirements of a run


def _base(inspection: Inspection) -> Finding:
    found = Finding("base", "Image, or base image to build it", "yes", "", vital=True)
    if inspection.image:
        return replace(found, seen=f"the engine has {inspection.image.tag}")
    if inspection.engine and _registry(inspection.engine):
        return replace(found, seen=f"the engine can pull {BASE}")
    if shutil.which("mmdebstrap") and apt.mirrors():
        return replace(found, seen=f"the engine cannot pull {BASE}; the base image is built from Debian packages")
    return replace(
        found,
        state="no" if inspection.engine else "unknown",
        seen=f"the engine cannot pull {BASE}, and mmdebstrap or a Debian mirror to build it is missing",
        remedy=f"give the engine access to a registry, load {BASE} (docker load), or install mmdebstrap",
    )


def _registry(engine: Engine) -> bool:
    try:
        within("the registry", lambda: engine.client.images.get_registry_data(BASE), seconds=REGISTRY_SECONDS)
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
    seen = f"{free / 2**30:.1f} GiB free in the cache folder {folder}"
    if free >= FREE_BYTES:
        return replace(found, seen=seen)
    wanted = f"{FREE_BYTES / 2**30:.0f} GiB"
    return replace(
        found,
        state="no",
        seen=f"{seen}; {wanted} are needed",
        remedy="free disk space, or set CONFORMANCE_CACHE to a folder on another disk",
    )


def _packages(inspection: Inspection) -> Iterator[Finding]:
    if paths.CHECKOUT is None:  # without ./run, which installs packages
        return
    for command, title, vital in (("matrix", "Debian packages", True), ("lab", "Debian packages of the lab", False)):
        found = Finding(f"packages-{command}", title, "yes", "all are installed")
        missing = _missing(command)
        if missing is None:
            yield replace(
                found,
                state="unknown",
                seen="this is not Debian",
                remedy=f"install the packages that {paths.PROJECT / 'run'} lists",
            )
        elif not missing:
            yield found
        else:
            root = os.geteuid() == 0
            yield replace(
                found,
                state="yes" if root else "no",
                seen=f"{f'./run {command} will install' if root else 'missing'}: {' '.join(missing)}",
                means=f"./run {command} installs them as root or with sudo",
                remedy="" if root else f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
                vital=vital and inspection.engine is None,
            )


def _missing(command: str) -> Sequence[str] | None:
    """Return the packages that ./run would install for a command; None if ./run cannot list them."""
    try:
        done = subprocess.run(
            [str(paths.PROJECT / "run"), "packages", command], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split() if done.returncode == 0 else None
