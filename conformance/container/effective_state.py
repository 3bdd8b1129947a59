"""The effective privileges of a running container, compared with its mode.

No cell counts before the two agree: an engine that grants less than the mode declares, or more, would give verdicts
about another mode.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from conformance.container.container import Container
from conformance.errors import EngineError, Unsupported
from conformance.model.exposure import UNCONFINED
from conformance.model.mode import UNLABELLED, Mode

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
    " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
    " MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""By their numbers (linux/capability.h)."""

NEWER = frozenset({"PERFMON", "BPF", "CHECKPOINT_RESTORE"})
"""Of Linux 5.8 and 5.9: an older engine, as Docker 20.10 is, does not know them, and its ``--privileged`` means all
others (measured with 20.10.24 on Linux 6.1)."""

MASKED_PATHS = (
    "/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats"
    " /proc/sched_debug /proc/scsi /sys/firmware"
).split()
READ_ONLY_PATHS = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
"""Docker's defaults (moby, oci/defaults.go); what does not exist on a kernel is left out by the runtime."""

NOT_CONFINED = ("spc_t", "unconfined_t")
"""SELinux's types of containers that it does not confine ("super privileged": the reference policy's container.te)."""

CONTROL_GROUPS = "/sys/fs/cgroup"

SCRIPT = r"""
sed -n 's/^\(CapBnd\|Seccomp\):[[:space:]]*/\1 /p' /proc/1/status
echo "LastCap $(cat /proc/sys/kernel/cap_last_cap)"
echo "Label $(tr -d '\0' </proc/1/attr/current 2>/dev/null)"
for comm in /proc/[0-9]*/comm; do
    case $(cat "$comm" 2>/dev/null) in
        libvirtd | virtqemud) echo "DaemonLabel $(tr -d '\0' <"${comm%comm}attr/current" 2>/dev/null)" ;;
    esac
done
sed 's/^/Cgroup /' /proc/1/cgroup
sed 's/^/Mount /' /proc/1/mountinfo
sed -n 's/^Max locked memory *unlimited .*/Unlimited memlock/p' /proc/1/limits
for asked in "$@"; do
    case $asked in
        /*) [ ! -c "$asked" ] || echo "Device $asked" ;;
        *)
            # A device that nobody has: that it may not be opened and that it is not there are two answers.
            node=$(mktemp -u)
            mknod "$node" c "$asked" 0 && (: <>"$node") 2>&1 | grep -q "not permitted" || echo "Major $asked"
            rm -f "$node" ;;
    esac
done
true
"""
"""Run by ``sh`` in the container, with the paths of devices, and the numbers of drivers, as arguments."""


@dataclass(frozen=True)
class State:
    """The privileges of a container's PID 1.

    Attributes:
        capabilities: its bounding set, without ``CAP_``.
        last_capability: number of the last capability that the kernel knows.
        seccomp: whether system calls are filtered.
        label: its label by the security module; empty without one.
        daemon_label: the label of libvirt's daemon; none where no daemon runs.
        host_cgroups: whether it sees its place among the host's control groups.
        masked: paths that the engine hides or makes read-only by default, and that are so here.
        mounts: mount points that are writable.
        read_only: mount points that are not.
        devices: character devices of the mode that exist.
        majors: numbers of the mode's drivers whose devices may be opened.
        unlimited: names of limits that do not limit anything.
    """

    capabilities: frozenset[str]
    last_capability: int
    seccomp: bool
    label: str
    host_cgroups: bool
    masked: frozenset[str]
    mounts: frozenset[str]
    devices: frozenset[str]
    daemon_label: str | None = None
    read_only: frozenset[str] = frozenset()
    majors: frozenset[int] = frozenset()
    unlimited: frozenset[str] = frozenset()

    def writable(self, path: str) -> bool:
        """Say whether what a path lies on is mounted writable."""
        places = [path, *map(str, PurePosixPath(path).parents)]
        nearest = next((place for place in places if place in self.mounts | self.read_only), "")
        return nearest in self.mounts


@dataclass(frozen=True)
class Difference:
    """One difference between a container and its mode.

    Attributes:
        what: the exposure or property.
        text: the difference, in words.
        lacking: the engine granted less than the mode declares; otherwise more.
    """

    what: str
    text: str
    lacking: bool


def read(container: Container) -> State:
    """Read a running container's state."""
    mode = container.mode
    wanted = (*mode.devices, *mode.groups, *map(str, mode.majors.values()))
    return parse(container.run("sh", "-c", SCRIPT, "sh", *wanted).text, container.id)


def verify(container: Container, *, cgroup_version: int, security: Collection[str]) -> None:
    """Compare a running container with its mode; devices that the host lacks do not count.

    Args:
        container: running.
        cgroup_version: the host's, 1 or 2.
        security: the modules by which the engine confines containers.

    Raises:
        Unsupported: the engine granted less than the mode declares.
        EngineError: the engine granted more, so that results would be too good.
    """
    found = [
        difference
        for difference in compare(container.mode, read(container), cgroup_version=cgroup_version, security=security)
        if difference.what not in container.absent
    ]
    if not found:
        return
    text = "; ".join(difference.text for difference in found)
    if all(difference.lacking for difference in found):
        raise Unsupported(f"the container has less than mode {container.mode.id} declares: {text}")
    raise EngineError(
        f"the container is not as mode {container.mode.id} declares: {text}",
        "look for an engine configuration that changes what containers get, such as default capabilities",
    )


def parse(output: str, container_id: str) -> State:
    """Read the output of :data:`SCRIPT`."""
    fields: dict[str, list[str]] = {}
    for line in output.splitlines():
        key, _, value = line.partition(" ")
        fields.setdefault(key, []).append(value.strip())
    bounding = int(fields["CapBnd"][0], 16)
    read_only: set[str] = set()
    writable: set[str] = set()
    mounted: set[str] = set()
    hierarchies: set[str] = set()
    for mount in fields.get("Mount", []):
        # proc(5): 36 35 98:0 /root /mount/point options ...
        words = mount.split()
        point, options, kind = words[4], words[5], words[words.index("-") + 1]
        mounted.add(point)
        if kind == "cgroup":
            hierarchies.add(point)
        # A later mount at the same point covers the earlier one.
        (writable if "rw" in options.split(",") else read_only).add(point)
        (read_only if "rw" in options.split(",") else writable).discard(point)
    if hierarchies and hierarchies <= writable:
        # With cgroup v1, systemd makes the folder of the hierarchies read-only (mount-setup.c): it holds nothing else.
        read_only.discard(CONTROL_GROUPS)
        writable.add(CONTROL_GROUPS)
    return State(
        capabilities=frozenset(name for number, name in enumerate(CAPABILITIES) if bounding >> number & 1),
        last_capability=int(fields["LastCap"][0]),
        seccomp=fields["Seccomp"][0] != "0",
        label=fields.get("Label", [""])[0],
        # A process that the daemon forks has its name for a moment, and none of its label once it is gone.
        daemon_label=max(fields["DaemonLabel"], key=bool) if "DaemonLabel" in fields else None,
        host_cgroups=any(container_id in line for line in fields.get("Cgroup", [])),
        masked=frozenset(
            [path for path in MASKED_PATHS if path in mounted] + [path for path in READ_ONLY_PATHS if path in read_only]
        ),
        mounts=frozenset(writable),
        read_only=frozenset(read_only),
        devices=frozenset(fields.get("Device", [])),
        majors=frozenset(map(int, fields.get("Major", []))),
        unlimited=frozenset(fields.get("Unlimited", [])),
    )


def compare(mode: Mode, state: State, *, cgroup_version: int, security: Collection[str]) -> list[Difference]:
    """Compare a container with its mode.

    Args:
        mode: the mode.
        state: of the container.
        cgroup_version: the host's, 1 or 2: it decides the engine's own choice of a cgroup namespace.
        security: the modules by which the engine confines containers.

    Returns:
        The differences; empty when the container is what the mode declares.
    """
    known = frozenset(CAPABILITIES[: state.last_capability + 1])
    asked = known if mode.privileged else mode.granted
    missing = asked - state.capabilities - (NEWER if mode.privileged else frozenset())
    found = [Difference(name, f"capability {name} was not granted", True) for name in sorted(missing)]
    found += [
        Difference(name, f"capability {name} was granted, but is not part of the mode", False)
        for name in sorted(state.capabilities - asked)
    ]

    filtered = not (mode.privileged or "seccomp=unconfined" in mode.security_options)
    if state.seccomp != filtered:
        found.append(
            Difference("seccomp", f"system calls are {'' if state.seccomp else 'not '}filtered", lacking=state.seccomp)
        )

    if "selinux" in security:
        free = mode.privileged or UNLABELLED in mode.security_options
        if free != any(kind in state.label.split(":") for kind in NOT_CONFINED):
            found.append(Difference("selinux", f"the container's SELinux label is {state.label!r}", free))
    if "apparmor" in security:
        confined = not (mode.privileged or mode.apparmor == UNCONFINED)
        label = state.label.partition(" ")[0]
        if confined != (label not in ("", "unconfined")) or (mode.profile and label != mode.profile):
            found.append(Difference("apparmor", f"the container's AppArmor label is {state.label!r}", not confined))

    host_cgroups = (mode.cgroup_namespace or ("host" if cgroup_version == 1 else "private")) == "host"
    if state.host_cgroups != host_cgroups:
        seen = "host" if state.host_cgroups else "private"
        found.append(Difference("cgroup namespace", f"the cgroup namespace is {seen}", lacking=host_cgroups))

    if mode.unmasked and state.masked:
        found.append(Difference("systempaths", f"still masked or read-only: {', '.join(sorted(state.masked))}", True))
    if not mode.unmasked and not state.masked:
        found.append(Difference("systempaths", "nothing is masked or read-only", False))

    found += [
        Difference(path, f"device {path} is not in the container", True)
        for path in (*mode.devices, *mode.groups)
        if path not in state.devices
    ]
    found += [
        Difference(driver, f"devices of {driver} may not be opened", True)
        for driver in mode.drivers
        if mode.majors[driver] not in state.majors
    ]
    found += [
        Difference(name, f"the limit {name} is not lifted", True)
        for name in mode.unlimited
        if name not in state.unlimited
    ]
    found += [
        Difference(mount.target, f"{mount.source} is not mounted {mount.access} at {mount.target}", True)
        for mount in mode.mounts
        # Debian's /lib is a link to /usr/lib: a mount point is named by where it really is.
        if not {mount.target, f"/usr{mount.target}"} & (state.mounts if mount.access == "rw" else state.read_only)
    ]
    return found
