"""The facts that tell one host from another, read from its engine."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HostFingerprint:
    """What makes a host different from another one, as far as the image is concerned."""

    kernel: str
    cgroup_version: int
    """0 where the engine does not say."""
    security: tuple[str, ...]
    """What the engine confines containers with: ``apparmor``, ``seccomp``, ``selinux``, ``rootless`` and so on."""
    engine: str
    os: str
    arch: str
    cpu: str
    """The CPU's model name, empty if it could not be asked."""
    cpus: int
