"""The options of the host's control groups (cgroup2), which a container in the host's cgroup namespace takes away.

``nsdelegate`` keeps a cgroup namespace from what lies outside of it, and ``memory_recursiveprot`` protects memory. All
mounts of cgroup2 share such options. For a container with ``--cgroupns=host`` runc mounts it anew, without them, and so
the host loses them, too (https://github.com/opencontainers/runc/issues/5258; seen with runc 1.1.15): afterwards
containers do what the host would have refused.
"""

from collections.abc import Mapping

import docker

from conformance import labels, throwaway
from conformance.engine import engine_errors
from conformance.errors import EngineError

LOOK = "cat /proc/self/mountinfo"

MOUNT = r"""
folder=$(mktemp -d) && mount -t cgroup2 -o "$1" cgroup2 "$folder" && umount "$folder" && echo mounted
"""
"""By who is in the host's cgroup namespace, a mount's options become those of all (kernel: cgroup_apply_flags)."""

NO_OPTIONS = {"rw", "ro", "seclabel"}
"""Of a file system, and not of control groups."""


def remember(client: docker.DockerClient, image: str, run: str) -> Mapping[str, str]:
    """Note the options, in the labels of an empty volume, by which they come back whatever becomes of this process.

    Args:
        client: the engine.
        image: an image with mount and sh: the image under test has them.
        run: the run's id, for the label.

    Returns:
        These labels, for :func:`give_back`; none where there is nothing to be lost.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        options = parse(throwaway.output(client, image, ["sh", "-c", LOOK], run=run, network_mode="none"))
        if not options:
            return {}
        marks = {labels.RUN: run, labels.IMAGE: image, labels.DELEGATION: ",".join(sorted(options))}
        client.api.create_volume(labels=marks)
    return marks


def give_back(client: docker.DockerClient, marks: Mapping[str, str]) -> None:
    """Give the host the options that were noted; raises EngineError where the engine, or the host, refused.

    Args:
        client: the engine.
        marks: the labels of the volume that remembers them.
    """
    wanted = marks[labels.DELEGATION]
    with engine_errors():
        said = throwaway.output(
            client,
            marks[labels.IMAGE],
            ["sh", "-c", MOUNT, "sh", wanted],
            run=marks[labels.RUN],
            network_mode="none",
            cgroupns="host",
            cap_add=["SYS_ADMIN"],
            security_opt=["apparmor=unconfined"],
        )
    if "mounted" not in said.split():
        raise EngineError(
            f"the host's control groups have lost the options {wanted}: {said.strip()}",
            f"there, as root: mount -o remount,{wanted} /sys/fs/cgroup",
        )


def parse(mountinfo: str) -> frozenset[str]:
    """Return the options of cgroup2 from proc(5)'s mountinfo; none where it is not mounted, as with version 1."""
    for line in mountinfo.splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        if kind == "cgroup2":
            return frozenset(rest.split()[-1].split(",")) - NO_OPTIONS
    return frozenset()
