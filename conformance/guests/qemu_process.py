"""The host's view of a guest: the QEMU process, as the kernel's /proc describes it inside the container."""

import json
import os
from typing import Any

import libvirt
import libvirt_qemu

from conformance.container.container import Container
from conformance.guests.guest import Guest, GuestFailure

NO_MODULE = "Invalid argument"
"""The kernel's error for a process's label on a host without a security module (security_getprocattr)."""


class QemuProcess:
    """The QEMU process of a running guest.

    Every method raises GuestFailure if the kernel cannot be read, as where QEMU has ended.
    """

    def __init__(self, container: Container, guest: Guest) -> None:
        self._container = container
        self._guest = guest

    @property
    def pid(self) -> str:
        """Its process number inside the container; empty after its end."""
        return self._container.run("cat", f"/run/libvirt/qemu/{self._guest.name}.pid").text.strip()

    @property
    def label(self) -> str:
        """The security module's label; empty without a module."""
        done = self._container.run("cat", f"/proc/{self.pid}/attr/current")
        error = done.stderr.decode(errors="replace").strip()
        if done.status and NO_MODULE not in error:
            what = f"the label of QEMU of guest {self._guest.name} cannot be read: {error}"
            raise GuestFailure(what, self._container, self._guest)
        return done.text.strip("\0\n")

    @property
    def control_groups(self) -> str:
        """Its control groups, in the notation of proc(5)."""
        return self._proc("cat /proc/$1/cgroup")

    def processors(self) -> dict[str, str]:
        """Return by the name of each thread the host's processors that it may run on."""
        fields = self._proc("cat /proc/$1/task/*/status").splitlines()
        names = [line.partition(":")[2].strip() for line in fields if line.startswith("Name:")]
        allowed = [line.partition(":")[2].strip() for line in fields if line.startswith("Cpus_allowed_list:")]
        return dict(zip(names, allowed, strict=True))

    def memory_kib(self, field: str) -> int:
        """Return a field of /proc/PID/status that is an amount of memory, such as ``VmLck``, in KiB."""
        fields = dict(line.partition(":")[::2] for line in self._proc("cat /proc/$1/status").splitlines())
        return int(fields[field].split()[0])

    def lockable_bytes(self) -> str:
        """Return the number of bytes that QEMU may lock, or ``unlimited``."""
        return self._proc("sed -n 's/^Max locked memory *\\([a-z0-9]*\\) .*/\\1/p' /proc/$1/limits").strip()

    def memory_policies(self) -> frozenset[str]:
        """Return the kernel's policies for QEMU's memory, such as ``default`` and ``bind:0``."""
        # By QEMU's own user: root needs SYS_PTRACE for it (proc(5)).
        maps = self._proc("cat /proc/$1/numa_maps", user=self._container.mode.image.user)
        return frozenset(line.split()[1] for line in maps.splitlines())

    def open_files(self) -> frozenset[str]:
        """Return the links under /proc/PID/fd; empty after QEMU's end.

        Read by the process's owner: root without SYS_PTRACE may not see another user's files (proc(5), ptrace(2)).
        """
        pid_file = f"/run/libvirt/qemu/{self._guest.name}.pid"
        process = self._container.run("sh", "-c", 'stat -c "%u %n" /proc/"$(cat "$1")"', "sh", pid_file)
        user, _, folder = process.text.strip().partition(" ")
        done = self._container.run("sh", "-c", 'for fd in "$1"/fd/*; do readlink "$fd"; done', "sh", folder, user=user)
        return frozenset(done.text.split("\n")) - {""}

    def opens_directly(self, file: str) -> bool:
        """Return whether QEMU has opened a file with O_DIRECT (proc(5), fdinfo), as for a disk with ``cache='none'``.

        Args:
            file: the end of its path.
        """
        script = (
            'for fd in /proc/$1/fd/*; do case $(readlink "$fd") in *"$2")'
            " sed -n 's/^flags:[[:space:]]*//p' /proc/$1/fdinfo/${fd##*/} ;; esac; done"
        )
        flags = self._proc(script, file, user=self._container.mode.image.user).split()
        return any(int(word, 8) & os.O_DIRECT for word in flags)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._container.run("kill", "-KILL", self.pid)

    def _proc(self, script: str, *arguments: str, user: str = "") -> str:
        """Run a shell script in the container with QEMU's process number as its first argument; return its output."""
        done = self._container.run("sh", "-c", script, "sh", self.pid, *arguments, user=user)
        if done.status:
            error = done.stderr.decode(errors="replace").strip()
            what = f"the state of QEMU of guest {self._guest.name} cannot be read: {error}"
            raise GuestFailure(what, self._container, self._guest)
        return done.text


def query_kvm(domain: "libvirt.virDomain") -> dict[str, Any]:
    """Return QEMU's own answer to ``query-kvm``, over its monitor."""
    answer = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": "query-kvm"}), 0)
    return dict(json.loads(answer)["return"])
