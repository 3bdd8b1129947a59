"""The facts that distinguish hosts, read from the engine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HostFingerprint:
    """The facts of a host that can matter to the image."""

    kernel: str
    cgroup_version: int
    """0 if the engine does not report it."""
    security: tuple[str, ...]
    """The engine's security options: ``apparmor``, ``seccomp``, ``selinux``, ``rootless`` and so on."""
    engine: str
    os: str
    arch: str
    cpu: str
    """The CPU's model name; empty if unknown."""
    cpus: int
