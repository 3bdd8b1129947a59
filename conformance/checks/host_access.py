"""Attempts of a container to reach its host, without any change there."""

import re
from collections.abc import Callable, Sequence
from xml.sax.saxutils import quoteattr

import libvirt

from conformance.container.container import Container
from conformance.errors import HarnessError
from conformance.host import char_devices
from conformance.run.context import Run

SETTINGS = """
for file in /proc/sys/kernel/core_pattern /host-procsys/kernel/core_pattern; do
    (: >>"$file") 2>/dev/null && echo "$file"
done
true
"""
"""The handler of crashed programs, which is every container's and the host's; opened, and not written to. By a shell of
its own: a redirection that fails ends the shell that tries it with a special built-in (POSIX, 2.8.1)."""

MODULE = r"""
perl -e 'my ($image, $none) = (q(x), q()); syscall(175, $image, 1, $none); print $!{EPERM} || $!{ENOSYS} ? q() : "$!"'
"""
"""init_module(2), number 175 on x86_64, with what is no module: who may load one is told so ("Exec format error"),
everybody else that it is not permitted; some kernels have no modules at all."""

PROCESSES = "cat /proc/2/comm 2>/dev/null | grep -x kthreadd || true"
"""The kernel's own threads are in the host's process namespace only, where kthreadd is number 2."""

DISK = r"""
for device in /sys/block/*; do
    case ${device##*/} in loop* | ram* | zram*) continue ;; esac
    numbers=$(cat "$device/dev")
    node=$(mktemp -u)
    mknod "$node" b "${numbers%:*}" "${numbers#*:}" 2>/dev/null
    head -c 512 "$node" >/dev/null 2>&1 && echo "${device##*/}"
    rm -f "$node"
done
true
"""
"""The first sector of any disk, read by a node that the container makes itself."""

MOUNT = r"""
folder=$(mktemp -d)
for device in /sys/class/block/*; do
    case ${device##*/} in loop* | ram* | zram* | sr*) continue ;; esac
    numbers=$(cat "$device/dev")
    node=$(mktemp -u)
    mknod "$node" b "${numbers%:*}" "${numbers#*:}" 2>/dev/null
    mount "$node" "$folder" 2>/dev/null && echo "${device##*/}"
    rm -f "$node"
    umount "$folder" 2>/dev/null
done
rmdir "$folder" 2>/dev/null
true
"""
"""Mounted as the host has it: of a file system that is mounted already, another mount changes nothing. What may be
mounted and not unmounted goes with the container."""

OLD_MOUNT = f"export LIBMOUNT_FORCE_MOUNT2=always\n{MOUNT}"
"""The same by mount(2), where mount(8) prefers move_mount(2) since util-linux 2.39."""

GROUPS = """
for folder in /sys/fs/cgroup /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu,cpuacct; do
    grep -q docker /proc/self/cgroup || continue
    [ -e "$folder/cgroup.procs" ] || continue
    mkdir "$folder/conformance-tries" 2>/dev/null && rmdir "$folder/conformance-tries" && echo "$folder"
done
true
"""
"""A control group beside the container's own, made and removed; a container that sees its place sees the host's."""

NETWORK = """
ip link add name conformance0 type dummy 2>/dev/null && ip link del conformance0 && echo added
true
"""
"""A link that leads nowhere, made and removed."""

MACVTAP = """
node=$(mktemp -u)
if ! said=$(mknod "$node" c "$1" 0 2>&1); then
    case $said in *"not permitted"* | *"ermission denied"*) exit 0 ;; esac
    echo "$said" >&2
    exit 1
fi
(: <>"$node") 2>&1 | grep -q "not permitted" || echo "$1"
rm -f "$node"
"""
"""A device that nobody has; what somebody has is opened from any network namespace, too (measured with Linux 6.18)."""


NOT_FOUND = 127
"""A shell's status where there is no such command."""

Try = Callable[[Container, Run], str]
"""Tries one access in a container, and returns the part of the host that it reached; nothing where it failed."""


def _said(container: Container, script: str, *tools: str, words: Sequence[str] = ()) -> str:
    """Run a script that needs these tools: without one, nothing would look as if it could not be done."""
    needed = "\n".join(f"command -v {tool} >/dev/null || {{ echo {tool}; exit {NOT_FOUND}; }}" for tool in tools)
    done = container.run("sh", "-c", f"{needed}\n{script}", "sh", *words)
    if done.status == NOT_FOUND:
        raise HarnessError(
            f"access to the host cannot be tested: the image lacks {done.text.strip()}", "add the program to the image"
        )
    if done.status:
        said = done.stderr.decode(errors="replace").strip()
        raise HarnessError(f"access to the host cannot be tested: {said or f'status {done.status}'}")
    return done.text.strip()


def _says(script: str, *tools: str) -> Try:
    return lambda container, _: _said(container, script, *tools)


def _network(container: Container, _: Run) -> str:
    return _said(container, NETWORK, "ip") if container.mode.host_network else ""


def _macvtap(container: Container, run: Run) -> str:
    """Open a device of macvtap, whose module the host has loaded by then: until it has, everything looks refused."""
    found = char_devices.majors(run.shell, ["macvtap"])
    return _said(container, MACVTAP, "mknod", "mktemp", "grep", words=[str(found["macvtap"])])


def _domain(container: Container, _: Run) -> str:
    """Start a domain on a disk of the host, paused and for reading only."""
    disks = _said(container, "lsblk --nodeps --noheadings --paths --output NAME,TYPE", "lsblk").splitlines()
    for path in [line.split()[0] for line in disks if line.split()[1:] == ["disk"] and "zram" not in line]:
        try:
            container.connection.createXML(
                "<domain type='qemu'><name>reaches-the-host</name><memory unit='MiB'>32</memory>"
                "<os><type arch='x86_64'>hvm</type></os><devices><disk type='block'>"
                f"<source dev={quoteattr(path)}/><target dev='vda' bus='virtio'/><readonly/></disk></devices></domain>",
                libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY,
            ).destroy()
        except libvirt.libvirtError:
            continue
        return path
    return ""


POWERS: dict[str, Try] = {
    "host-settings": _says(SETTINGS),
    "host-kernel": _says(MODULE, "perl"),
    "host-processes": _says(PROCESSES),
    "host-disks": _says(DISK, "mknod", "head", "mktemp"),
    "host-mounts": _says(MOUNT, "mknod", "mktemp", "mount", "umount"),
    "host-groups": _says(GROUPS),
    "host-network": _network,
    "host-macvtap": _macvtap,
    "host-disks-by-domain": _domain,
}
"""By their ids in the contract."""

REFUSED_BY_PROFILE = {"host-settings": SETTINGS, "host-mounts": MOUNT, "host-mounts-by-mount2": OLD_MOUNT}
"""What a profile of ours refuses by itself, whatever else a container is allowed."""

MOUNTS_SEEN = (6, 7)
"""The first Linux whose AppArmor sees mounts made by move_mount(2), as mount(8) makes them: "apparmor: Fix move_mount
mediation by detecting if source is detached" (https://github.com/lxc/lxc/issues/4723)."""


def unseen(kernel: str, power: str) -> str:
    """Return why no profile can refuse an access under a kernel; nothing where one can."""
    number = re.match(r"(\d+)\.(\d+)", kernel)
    if power != "host-mounts" or number is None or tuple(map(int, number.groups())) >= MOUNTS_SEEN:
        return ""
    seen = ".".join(map(str, MOUNTS_SEEN))
    return f"the AppArmor of Linux {number[0]} does not see mounts made by move_mount(2), that of {seen} and later does"


def reached_under(run: Run, profile: str, power: str) -> str:
    """Return the part of the host that a container reaches when only an AppArmor profile confines it.

    Args:
        run: for engine and image.
        profile: the profile's name.
        power: which of :data:`REFUSED_BY_PROFILE`.

    Raises:
        EngineError: the engine refused.
    """
    return run.shell.run(
        REFUSED_BY_PROFILE[power],
        binds=["/proc/sys:/host-procsys"],
        cap_add=["SYS_ADMIN"],
        device_cgroup_rules=["b *:* rwm"],
        security_opt=[f"apparmor={profile}", "seccomp=unconfined"],
    ).strip()
