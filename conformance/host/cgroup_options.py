"""Mount options of cgroup2 on the engine's host, which a container in the host's cgroup namespace removes.

``nsdelegate`` confines a cgroup namespace to its own part of the hierarchy, and ``memory_recursiveprot`` protects
memory. All mounts of cgroup2 share such options. For a container with ``--cgroupns=host`` runc mounts cgroup2 anew
without them, and the host loses them, too (https://github.com/opencontainers/runc/issues/5258; measured with runc
1.1.15): afterwards containers may do things that the host would have refused. The options stay where the host's own
mount is bound over the container's.
"""

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError
from conformance.host.change import HostChange

MOUNT = r"""
folder=$(mktemp -d) && mount -t cgroup2 -o "$1" cgroup2 "$folder" && umount "$folder" && echo mounted
"""
"""A mount in the host's cgroup namespace sets the options of all mounts (kernel: cgroup_apply_flags)."""

KEEPS_NAMESPACES = "nsdelegate"

USUAL = f"memory_recursiveprot,{KEEPS_NAMESPACES}"
"""The options with which systemd mounts cgroup2."""

NO_OPTIONS = {"rw", "ro", "seclabel"}
"""Options of any file system, not of cgroup2."""


class CgroupOptions:
    """The options of an engine's host before a run.

    Args:
        shell: on the host, with mount.
    """

    def __init__(self, shell: HostShell) -> None:
        self._shell = shell
        self._before: str | None = None

    def remember(self) -> None:
        """Keep the options, once, before a container in the host's cgroup namespace removes them (:data:`CHANGE`).

        Without options there is nothing to restore.

        Raises:
            EngineError: the engine refused.
        """
        if self._before is None:
            self._before = ",".join(sorted(parse(self._shell.output(["cat", "/proc/self/mountinfo"]))))
            if self._before:
                CHANGE.remember(self._shell, self._before)

    def restore(self) -> None:
        """Restore the options before a container in a private cgroup namespace.

        Raises:
            EngineError: the host refuses the options, or the engine refused.
        """
        if self._before:
            _restore(self._shell, self._before)


def _restore(shell: HostShell, wanted: str) -> str:
    output = shell.run(MOUNT, wanted, cgroupns="host", cap_add=["SYS_ADMIN"], security_opt=["apparmor=unconfined"])
    if "mounted" not in output.split():
        raise EngineError(
            f"the host's control groups have lost the options {wanted}: {output.strip()}",
            f"run as root on that host: {remount(wanted)}",
        )
    return ""


CHANGE = HostChange(labels.DELEGATION, _restore)
"""The options; the label holds them, separated by commas. Restoring them twice does no harm: it is not reported."""


def remount(options: str) -> str:
    """Return the command that restores a host's options."""
    return f"mount -o remount,{options} /sys/fs/cgroup"


def parse(mountinfo: str) -> frozenset[str]:
    """Return the options of cgroup2 from proc(5)'s mountinfo; none where it is not mounted, as with version 1."""
    for line in mountinfo.splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        if kind == "cgroup2":
            return frozenset(rest.split()[-1].split(",")) - NO_OPTIONS
    return frozenset()
