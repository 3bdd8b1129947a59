"""Looking at the machine where containers run: through an engine that has an image, or here.

The same two scripts are run either way, so that an engine elsewhere is looked at as this machine is. What can be tried
is tried: a module that is not loaded yet, a kernel may load by itself.
"""

import re
import subprocess
from dataclasses import dataclass

from conformance.container import effective_state
from conformance.engine.host_shell import HostShell
from conformance.engine.refusals import CANNOT_GRANT, NO_DEVICE
from conformance.errors import EngineError

DEVICES = ("/dev/kvm", "/dev/net/tun")

SECONDS = 20
"""For one script; it takes less than one."""

LOOK = r"""
exec 2>/dev/null
echo "last-capability $(cat /proc/sys/kernel/cap_last_cap)"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo 'cgroup 2'
    grep -q ' - cgroup2 .*nsdelegate' /proc/self/mountinfo || echo undelegated
fi
[ "$(cat /sys/module/apparmor/parameters/enabled)" != Y ] || echo apparmor
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
"""Run in the host's namespaces of processes and of the network. Who is not known to be in another one is here."""

TRY = r"""
for node in /dev/kvm /dev/net/tun; do
    if [ ! -c "$node" ]; then echo "absent $node"; continue; fi
    why=$( { : <>"$node"; } 2>&1 ) && echo "opens $node" || echo "closed $node ${why##*: }"
done
why=$(ip link add b0 type bridge 2>&1) && echo 'made bridge' || echo "refused bridge $why"
why=$(ip link add link b0 name t0 type macvtap mode bridge 2>&1) && echo 'made macvtap' || echo "refused macvtap $why"
true
"""
"""Run in a network namespace of its own, with the right to change it."""


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Attributes:
        lacking: capabilities that cannot be granted; none where that could not be seen.
        refused: the engine was asked for ``--privileged``, and did not start it.
        apparmor: whether the kernel has it enabled.
        cgroup_version: of the control groups.
        undelegated: whether version 2 is mounted without nsdelegate (:mod:`conformance.host.cgroup_options`).
        virtualization: the processor's flag, ``vmx`` or ``svm``; empty where it has none.
        iommu_groups: how many there are.
        libvirt: signs of another libvirt in the host's network.
        devices: what opening each says: ``opens``, ``absent``, or why it cannot be opened.
        links: what making each kind says: ``made``, or why it cannot be made; empty where it could not be tried.
    """

    lacking: frozenset[str] | None
    refused: bool
    apparmor: bool
    cgroup_version: int
    undelegated: bool
    virtualization: str
    iommu_groups: int
    libvirt: tuple[str, ...]
    devices: dict[str, str]
    links: dict[str, str]


def here() -> Survey:
    """Look at this machine; what takes rights that this user lacks stays unknown."""
    tried = _run(["sh", "-c", TRY], own_network=True)
    return parse(_run(["sh", "-c", LOOK]), tried)


def _run(command: list[str], *, own_network: bool = False) -> str:
    """Return what a command writes; nothing where it cannot be run."""
    prefix = ["unshare", "--net"] if own_network else []
    try:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def through(shell: HostShell) -> Survey:
    """Look at an engine's machine from containers that are gone afterwards.

    Args:
        shell: on that machine; without ``ip`` links are not tried.

    Raises:
        EngineError: the engine refused or is gone.
    """
    seen = shell.run(
        LOOK,
        seconds=SECONDS,
        network_mode="host",
        pid_mode="host",
        cap_add=["SYS_PTRACE"],
        security_opt=["apparmor=unconfined"],  # its default profile does not let another's namespaces be seen
    )
    seen += _privileged(shell)
    return parse(seen, _attempt(shell))


def _privileged(shell: HostShell) -> str:
    """Return, as LOOK would, which capabilities --privileged gives; nothing where the engine does not start it."""
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


def parse(looked: str, tried: str) -> Survey:
    """Read the output of :data:`LOOK` and :data:`TRY`."""
    seen: dict[str, list[str]] = {}
    for line in looked.splitlines():
        key, _, value = line.partition(" ")
        seen.setdefault(key, []).append(value.strip())
    answers = re.findall(r"^(opens|absent|closed|made|refused) (\S+) ?(.*)$", tried, re.MULTILINE)
    return Survey(
        lacking=_lacking(seen),
        refused="refused" in seen,
        apparmor="apparmor" in seen,
        cgroup_version=2 if "cgroup" in seen else 1,
        undelegated="undelegated" in seen,
        virtualization=next(iter(seen.get("cpu", [])), ""),
        iommu_groups=len(seen.get("iommu", [])),
        libvirt=tuple(seen.get("libvirt", [])),
        devices={what: why or how for how, what, why in answers if what in DEVICES},
        # A container without ip is no evidence.
        links={what: why or how for how, what, why in answers if what not in DEVICES and "not found" not in why},
    )


def _lacking(seen: dict[str, list[str]]) -> frozenset[str] | None:
    """Return what --privileged does not give: by its word, else by what the engine or, without one, this user has."""
    masks = seen.get("granted") or seen.get("engine-capabilities") or seen.get("own-capabilities")
    if not masks or "last-capability" not in seen:
        return None
    known = effective_state.CAPABILITIES[: int(seen["last-capability"][0]) + 1]
    lacking = {name for number, name in enumerate(known) if not int(masks[0], 16) >> number & 1}
    return frozenset(lacking) - (effective_state.NEWER if "granted" in seen else frozenset())
