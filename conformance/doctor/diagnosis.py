"""The diagnosis of a machine: one finding for each thing that modes and features need."""

import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import replace

from conformance.doctor import requirements
from conformance.doctor.finding import Finding, Inspection
from conformance.engine import local_daemon
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.docker_context import address
from conformance.errors import EngineError
from conformance.host import cgroup_options
from conformance.host.pci import NO_IOMMU
from conformance.model.mode import MODULES, Mode, without_module
from conformance.util import paths

STARTS_WITHOUT_ALL = 23
"""From this version on, Docker starts --privileged containers although a capability is missing; older ones refuse."""

TESTED_LATER = f"{paths.COMMAND} matrix tests this"


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
        *requirements.all_of(inspection),
    )


# ------------------------------------------------------------------------------------------------- engine


def _engine(inspection: Inspection) -> Finding:
    found = Finding("engine", "Container engine", "OK", "", vital=True)
    if inspection.engine:
        where = inspection.engine.host + ("" if inspection.engine.local else " on another machine")
        return replace(found, seen=f"{inspection.engine.name} at {where}")
    assert inspection.refusal  # noqa: S101  - set whenever there is no engine
    if isinstance(inspection.refusal, NoEngineError) and not address()[1]:
        try:
            local_daemon.require_startable()
        except EngineError as error:
            return replace(
                found, state="MISSING", seen=f"{inspection.refusal.message}; {error.message}", remedy=error.remedy
            )
        return replace(
            found, seen=f"no engine answers; {paths.COMMAND} matrix starts a private one and stops it at the end"
        )
    return replace(found, state="MISSING", seen=inspection.refusal.message, remedy=inspection.refusal.remedy)


def _rights(inspection: Inspection) -> Finding:
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "root"
    found = Finding("rights", "Rights", "OK", f"running as {user}")
    if inspection.engine:
        return replace(
            found, seen=f"{found.seen}, with access to the engine, which is equivalent to root on its machine"
        )
    if os.geteuid() == 0:
        return found
    if not isinstance(inspection.refusal, NoEngineError):
        return replace(found, seen=f"{found.seen}, without access to the engine")
    return replace(
        found,
        state="MISSING",
        means="only root can start a private engine",
        remedy="run as root, or start the system's engine: sudo systemctl start docker",
        vital=True,
    )


def _cgroup(inspection: Inspection) -> Finding:
    version = int(inspection.engine.info.get("CgroupVersion") or 0) if inspection.engine else 0
    version = version or (inspection.survey.cgroup_version if inspection.survey else 0)
    found = Finding("cgroup", "cgroups", "OK", f"version {version}")
    if not version:
        return replace(found, state="N/A", seen="the engine does not report its cgroup version")
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
    found = Finding("security", "Security modules", "OK", "")
    if inspection.engine is None and inspection.survey is None:
        return replace(found, state="N/A", seen="no engine answers")
    names = inspection.security
    absent = [module for module in MODULES if module not in names]
    equal = inspection.mode_ids(lambda one: any(without_module(inspection.contract, one, module) for module in absent))
    seen = ", ".join(names) or "none"
    if len(absent) < len(MODULES):
        # A kernel has only one of them. Modes that differ by the other one need another machine.
        means = f"containers are confined unless a mode disables it; same as another mode here: {', '.join(equal)}"
        return replace(found, seen=seen, means=means)
    return replace(
        found,
        state="MISSING",
        seen=f"{seen}; neither {' nor '.join(MODULES.values())}",
        means="modes that differ only in confinement are the same here",
        remedy="boot a kernel with AppArmor, install the package apparmor, and restart the engine",
        modes=equal,
    )


LIFTS_LIMITS = frozenset({"SYS_RESOURCE"})
"""Capabilities that the engine needs to raise a container's limit (setrlimit(2)); the container does not get them."""


def _taken(one: Mode) -> frozenset[str]:
    """Return the capabilities that the engine needs to start a container in an unprivileged mode."""
    return one.granted | LIFTS_LIMITS if one.unlimited else one.granted


def _privileged(inspection: Inspection) -> Finding:
    found = Finding(
        "privileged", "--privileged", "OK", "containers start", modes=inspection.mode_ids(lambda one: one.privileged)
    )
    seen = inspection.survey
    if seen is None or seen.lacking is None:
        return replace(found, state="N/A", seen=_unseen(inspection), remedy=TESTED_LATER)
    if not seen.lacking and not seen.refused:
        return found
    lacking = seen.lacking
    names = ", ".join(sorted(lacking)) or "an unknown capability"
    name = inspection.engine.name if inspection.engine else ""
    version = re.match(r"docker (\d+)", name)
    refused = seen.refused or (version is not None and int(version[1]) < STARTS_WITHOUT_ALL)
    return replace(
        found,
        state="MISSING",
        seen=f"the engine itself lacks {names}",
        means="Docker refuses privileged containers" if refused else "privileged containers lack these capabilities",
        remedy="run the engine as root with every capability, not in a container",
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
        "OK",
        "",
        means="guests run under KVM",
        features=("kvm",),
    )
    emulated = "guests are emulated: everything except KVM can be tested, more slowly"
    node = inspection.survey.devices.get("/dev/kvm", "") if inspection.survey else ""
    if inspection.denied(node):
        return replace(
            found, state="N/A", seen="/dev/kvm exists; only root could try it", means="", remedy=TESTED_LATER
        )
    if node and node != "opens":
        return replace(
            found,
            state="MISSING",
            seen="/dev/kvm does not exist" if node == "absent" else f"/dev/kvm cannot be opened: {node}",
            means=emulated,
            remedy=_kvm_remedy(inspection),
            features=("kvm", "exposures"),
        )
    answer = inspection.kvm
    if answer is None:
        seen = "/dev/kvm opens; booting a kernel was not tried" if node else _unseen(inspection)
        return replace(found, state="N/A", seen=seen, means="", remedy=TESTED_LATER)
    if answer.usable:
        return replace(found, seen=answer.seen)
    return replace(
        found,
        state="MISSING",
        seen=answer.seen,
        means=emulated,
        remedy="use another host kernel or another type of machine (on some nested hosts /dev/kvm exists, but no guest"
        " kernel boots with it)",
    )


def _kvm_remedy(inspection: Inspection) -> str:
    assert inspection.survey  # noqa: S101  - it found no usable device
    module = {"vmx": "kvm_intel", "svm": "kvm_amd"}.get(inspection.survey.virtualization)
    if module:
        return f"load the kernel module: sudo modprobe {module}"
    return "the processor offers no virtualization: enable it in the firmware or, on a virtual machine, on its host"


def _tun(inspection: Inspection) -> Finding:
    features = ("virtio-net", "nat", "exposures")
    found = Finding("tun", "TUN", "OK", "/dev/net/tun opens", features=features)
    node = inspection.survey.devices.get("/dev/net/tun", "") if inspection.survey else ""
    if node == "opens":
        return found
    if not node or inspection.denied(node):
        return replace(found, state="N/A", seen=_unseen(inspection))
    return replace(
        found,
        state="MISSING",
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
        found = Finding(kind, title, "OK", "the kernel can create one", features=features, modes=modes)
        answer = inspection.survey.links.get(kind, "") if inspection.survey else ""
        if answer == "made":
            yield found
        elif not answer or "not permitted" in answer.lower():
            known = inspection.survey is not None and kind in inspection.survey.modules
            seen = f"the kernel has the module {kind}; creating a link was not tried: {_unseen(inspection)}"
            yield replace(found, seen=seen) if known else replace(found, state="N/A", seen=_unseen(inspection))
        else:
            yield replace(
                found,
                state="MISSING",
                seen=f"the kernel cannot create one: {answer}",
                remedy=f"install the kernel's modules, then run: sudo modprobe {kind}",
            )


def _iommu(inspection: Inspection) -> Finding:
    modes = inspection.mode_ids(lambda one: one.vfio)
    found = Finding("iommu", "IOMMU", "OK", "", features=("pci-passthrough",), modes=modes)
    if inspection.survey is None:
        return replace(found, state="N/A", seen=_unseen(inspection))
    if inspection.survey.iommu_groups:
        return replace(
            found,
            seen=f"{inspection.survey.iommu_groups} IOMMU groups",
            means="PCI passthrough can be tested with a spare device: --pci-device ADDRESS",
        )
    return replace(
        found,
        state="MISSING",
        seen="no IOMMU groups",
        means="PCI passthrough is not possible",
        remedy=NO_IOMMU,
    )


def _other_libvirt(inspection: Inspection) -> Finding:
    found = Finding("libvirt", "Host network without another libvirt", "OK", "none found")
    if inspection.survey is None:
        return replace(found, state="N/A", seen=_unseen(inspection))
    if not inspection.survey.libvirt:
        return found
    return replace(
        found,
        state="MISSING",
        seen=", ".join(inspection.survey.libvirt),
        means="its default network may conflict with the container's in the host's network, and leftovers of a killed"
        " container cannot be distinguished from its own interfaces",
        remedy="stop it while the matrix runs: sudo systemctl stop libvirtd virtqemud virtnetworkd",
        modes=inspection.mode_ids(lambda one: one.host_network),
    )
