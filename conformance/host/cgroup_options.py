"""The options of the host's control groups (cgroup2), which a container in the host's cgroup namespace takes away.

``nsdelegate`` keeps a cgroup namespace from what lies outside of it, and ``memory_recursiveprot`` protects memory. All
mounts of cgroup2 share such options. For a container with ``--cgroupns=host`` runc mounts it anew, without them, and so
the host loses them, too (https://github.com/opencontainers/runc/issues/5258; seen with runc 1.1.15): afterwards
containers do what the host would have refused. Nothing is lost where the host's own mount is bound over it.
"""

from collections.abc import Mapping

import docker

from conformance.engine import labels, one_shot
from conformance.engine.api_errors import engine_errors
from conformance.errors import EngineError

MOUNT = r"""
folder=$(mktemp -d) && mount -t cgroup2 -o "$1" cgroup2 "$folder" && umount "$folder" && echo mounted
"""
"""By who is in the host's cgroup namespace, a mount's options become those of all (kernel: cgroup_apply_flags)."""

KEEPS_NAMESPACES = "nsdelegate"

USUAL = f"memory_recursiveprot,{KEEPS_NAMESPACES}"
"""What systemd mounts cgroup2 with."""

NO_OPTIONS = {"rw", "ro", "seclabel"}
"""Of a file system, and not of control groups."""


class Delegation:
    """The options that one run takes from its engine's host, and gives back.

    Args:
        client: the engine.
        image: an image with cat, mount and sh: the image under test has them.
        run: the run's id, for the label.
    """

    def __init__(self, client: docker.DockerClient, image: str, run: str) -> None:
        self._client = client
        self._image = image
        self._run = run
        self._marks: Mapping[str, str] | None = None

    def note(self) -> None:
        """Note the options, once, before a container in the host's cgroup namespace takes them.

        The labels of an empty volume keep them, so that they come back whatever becomes of this process
        (:func:`conformance.run.cleanup.remove`). Where there are none, there is nothing to be lost.

        Raises:
            EngineError: the engine refused.
        """
        if self._marks is not None:
            return
        with engine_errors():
            command = ["cat", "/proc/self/mountinfo"]
            options = parse(one_shot.output(self._client, self._image, command, run=self._run, network_mode="none"))
            self._marks = {}
            if options:
                noted = ",".join(sorted(options))
                self._marks = {labels.RUN: self._run, labels.IMAGE: self._image, labels.DELEGATION: noted}
                self._client.api.create_volume(labels=self._marks)

    def give_back(self) -> None:
        """Give the host what it has lost, before a container in a namespace of its own; raises as :func:`give_back`."""
        if self._marks:
            give_back(self._client, self._marks)


def give_back(client: docker.DockerClient, marks: Mapping[str, str]) -> None:
    """Give the host the options that were noted; raises EngineError where the engine, or the host, refused.

    Args:
        client: the engine.
        marks: the labels of the volume that remembers them.
    """
    wanted = marks[labels.DELEGATION]
    with engine_errors():
        said = one_shot.output(
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
            f"there, as root: {remount(wanted)}",
        )


def remount(options: str) -> str:
    """Return the command that gives the host its options back."""
    return f"mount -o remount,{options} /sys/fs/cgroup"


def parse(mountinfo: str) -> frozenset[str]:
    """Return the options of cgroup2 from proc(5)'s mountinfo; none where it is not mounted, as with version 1."""
    for line in mountinfo.splitlines():
        kind, _, rest = line.partition(" - ")[2].partition(" ")
        if kind == "cgroup2":
            return frozenset(rest.split()[-1].split(",")) - NO_OPTIONS
    return frozenset()
