"""A survey of the machine where containers run: through an engine that has an image, or of this machine.

Both ways run the same two shell scripts, so that a remote engine's machine gets the same survey as this one. An image
has a shell, but no Python library such as psutil. The scripts try things instead of looking for kernel modules: the
kernel loads some modules on demand.
"""

import os
import re
import subprocess
from dataclasses import dataclass

from conformance.container import effective_state
from conformance.engine.host_shell import HostShell
from conformance.engine.refusals import CANNOT_GRANT, NO_DEVICE
from conformance.errors import EngineError
from conformance.util import namespaces

DEVICES = ("/dev/kvm", "/dev/net/tun")

SECONDS = 20
"""Limit for one script, which takes less than a second."""

LOOK = r"""
exec 2>/dev/null
echo "last-capability $(cat /proc/sys/kernel/cap_last_cap)"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo 'cgroup 2'
    grep -q ' - cgroup2 .*nsdelegate' /proc/self/mountinfo || echo undelegated
fi
[ "$(cat /sys/module/apparmor/parameters/enabled)" != Y ] || echo 'security apparmor'
[ ! -e /sys/fs/selinux/enforce ] || echo 'security selinux'
modules=/lib/modules/$(uname -r)
for module in bridge macvtap; do
    if [ -e /sys/module/$module ] || grep -q "/$module[.]ko" $modules/modules.dep $modules/modules.builtin; then
        echo "module $module"
    fi
done
grep -q -w vmx /proc/cpuinfo && echo 'cpu vmx'
grep -q -w svm /proc/cpuinfo && echo 'cpu svm'
for group in /sys/kernel/iommu_groups/*; do [ ! -e "$group" ] || echo "iommu ${group##*/}"; done
for link in /sys/class/net/virbr*; do [ ! -e "$link" ] || echo "libvirt link ${link##*/}"; done
for process in /proc/[0-9]*; do
    case $(cat $process/comm) in
        dockerd) sed -n 's/^CapBnd:[[:space:]]*/engine-capabilities /p' $process/status ;;
        libvirtd | virtqemud | virtnetworkd)
            [ "$(readlink $process/ns/net)" != "$(readlink /proc/self/ns/net)" ] ||
                echo "libvirt process $(cat $process/comm) (${process#/proc/})" ;;
    esac
done
sed -n 's/^CapBnd:[[:space:]]*/own-capabilities /p' /proc/self/status
true
"""
"""Runs in the host's PID and network namespaces. A libvirt process counts unless it is in another network namespace."""

OPEN = r"""
for node in /dev/kvm /dev/net/tun; do
    if [ ! -c "$node" ]; then echo "absent $node"; continue; fi
    why=$( { : <>"$node"; } 2>&1 ) && echo "opens $node" || echo "closed $node ${why##*: }"
done
true
"""
"""Opens devices; needs no rights."""

TRY = (
    OPEN
    + r"""
why=$(ip link add b0 type bridge 2>&1) && echo 'made bridge' || echo "refused bridge $why"
why=$(ip link add link b0 name t0 type macvtap mode bridge 2>&1) && echo 'made macvtap' || echo "refused macvtap $why"
true
"""
)
"""Runs in a network namespace of its own, with NET_ADMIN."""


@dataclass(frozen=True)
class Survey:
    """The facts of a machine.

    Attributes:
        lacking: capabilities that the engine cannot grant; None if unknown.
        refused: whether the engine refused to start a ``--privileged`` container.
        security: the kernel's security modules that confine containers: ``apparmor`` or ``selinux``.
        cgroup_version: 1 or 2.
        undelegated: whether cgroup v2 is mounted without nsdelegate (:mod:`conformance.host.cgroup_options`).
        virtualization: the processor's flag, ``vmx`` or ``svm``; empty if it has none.
        iommu_groups: the number of IOMMU groups.
        libvirt: signs of another libvirt in the host's network.
        devices: for each device ``opens``, ``absent``, or the error when opening it.
        links: for each type of link ``made``, or the error when creating it; empty if it could not be tried.
        modules: kernel modules of links that are loaded or can be; empty where none was found.
    """

    lacking: frozenset[str] | None
    refused: bool
    security: tuple[str, ...]
    cgroup_version: int
    undelegated: bool
    virtualization: str
    iommu_groups: int
    libvirt: tuple[str, ...]
    devices: dict[str, str]
    links: dict[str, str]
    modules: frozenset[str] = frozenset()


def here() -> Survey:
    """Survey this machine; users other than root create links in a user namespace, if they can."""
    attempts = (
        [*([] if os.geteuid() == 0 else namespaces.OWN_ROOT), "unshare", "--net", "sh", "-c", TRY],
        ["sh", "-c", OPEN],
    )
    return parse(_run(["sh", "-c", LOOK]), next(filter(None, map(_run, attempts)), ""))


def _run(command: list[str]) -> str:
    """Return a command's output; empty if it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def through(shell: HostShell) -> Survey:
    """Survey an engine's machine from temporary containers.

    Args:
        shell: runs scripts on that machine; if its image lacks ``ip``, links are not tried.

    Raises:
        EngineError: the engine refused or is gone.
    """
    seen = shell.run(
        LOOK,
        seconds=SECONDS,
        network_mode="host",
        pid_mode="host",
        cap_add=["SYS_PTRACE"],
        security_opt=["apparmor=unconfined"],  # docker-default hides other processes' namespaces
    )
    seen += _privileged(shell)
    return parse(seen, _attempt(shell))


def _privileged(shell: HostShell) -> str:
    """Return a line as from LOOK with the capabilities of --privileged, or the line ``refused``."""
    command = ["sed", "-n", r"s/^CapBnd:[[:space:]]*/granted /p", "/proc/self/status"]
    try:
        return shell.output(command, seconds=SECONDS, privileged=True)
    except EngineError as error:
        if CANNOT_GRANT.search(error.message):
            return "refused\n"
        raise


def _attempt(shell: HostShell) -> str:
    absent: list[str] = []
    while True:
        devices = [f"{node}:{node}:rwm" for node in DEVICES if node not in absent]
        try:
            return shell.run(TRY, seconds=SECONDS, devices=devices, cap_add=["NET_ADMIN"])
        except EngineError as error:
            missing = NO_DEVICE.search(error.message)
            if not missing or missing["path"] in absent:
                raise
            absent.append(missing["path"])


def parse(facts: str, tried: str) -> Survey:
    """Parse the output of :data:`LOOK` and :data:`TRY`."""
    seen: dict[str, list[str]] = {}
    for line in facts.splitlines():
        key, _, value = line.partition(" ")
        seen.setdefault(key, []).append(value.strip())
    answers = re.findall(r"^(opens|absent|closed|made|refused) (\S+) ?(.*)$", tried, re.MULTILINE)
    return Survey(
        lacking=_lacking(seen),
        refused="refused" in seen,
        security=tuple(seen.get("security", [])),
        cgroup_version=2 if "cgroup" in seen else 1,
        undelegated="undelegated" in seen,
        virtualization=next(iter(seen.get("cpu", [])), ""),
        iommu_groups=len(seen.get("iommu", [])),
        libvirt=tuple(seen.get("libvirt", [])),
        devices={what: why or how for how, what, why in answers if what in DEVICES},
        # An image without ip tells nothing about links.
        links={what: why or how for how, what, why in answers if what not in DEVICES and "not found" not in why},
        modules=frozenset(seen.get("module", [])),
    )


def _lacking(seen: dict[str, list[str]]) -> frozenset[str] | None:
    """Return the capabilities that --privileged lacks: as seen in one, else as the engine or this user lacks them."""
    masks = seen.get("granted") or seen.get("engine-capabilities") or seen.get("own-capabilities")
    if not masks or "last-capability" not in seen:
        return None
    known = effective_state.CAPABILITIES[: int(seen["last-capability"][0]) + 1]
    lacking = {name for number, name in enumerate(known) if not int(masks[0], 16) >> number & 1}
    return frozenset(lacking) - (effective_state.NEWER if "granted" in seen else frozenset())
