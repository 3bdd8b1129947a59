"""Modes: named sets of exposures, and their rendering as an engine call.

:mod:`conformance.model.commands` renders the same :class:`Mode` as a ``docker run`` command and as a Compose file, so
that users start the container that the tests judged.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conformance.errors import ContractError
from conformance.model.contract import Contract, ImageClaims, ModeClaims
from conformance.model.exposure import (
    UNCONFINED,
    Capability,
    CgroupNamespace,
    Device,
    DeviceRule,
    Exposure,
    Mount,
    Network,
    Privileged,
    SecurityOption,
    Ulimit,
    VfioGroup,
)

STOP_TIMEOUT = 60
"""Seconds between SIGTERM and SIGKILL; longer than the image's limit for guests to shut down."""

DEFAULT_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP"
    " SETUID SYS_CHROOT".split()
)
"""Docker's default capabilities (Docker's documentation, "Runtime privilege and Linux capabilities")."""

SYSTEM_PATHS = "systempaths=unconfined"
"""An option of Docker's command line only; the API takes empty lists of masked and read-only paths instead."""

MODULES = {"apparmor": "AppArmor", "selinux": "SELinux"}
"""Security modules by the engine's names for them; a kernel has at most one of them."""

OBEYED = {"apparmor": "apparmor=", "selinux": "label="}
"""The prefix of each module's security options."""

UNLABELLED = "label=disable"

KVM = "dev-kvm"
"""The exposure of /dev/kvm; the engine starts no container with a device that its host lacks."""

RULE = "c {major}:* rwm"
"""A rule for all character devices of a driver (the kernel's documentation, "Device Whitelist Controller")."""


@dataclass(frozen=True)
class Mode:
    """How a container may touch its host.

    Attributes:
        id: the mode's name in the contract.
        summary: one sentence for tables and help.
        exposures: the container's exposures, in the contract's order.
        image: how the image starts and how clients reach it.
        permissions: the documented permission mode of each exposed path, by the path in the container.
        default_capabilities: whether the container has Docker's default capabilities, beside the exposed ones.
        environment: variables that the image needs in this mode.
        volumes: container path by volume name, for the rendered commands.
        majors: device numbers of the drivers with a rule, on the engine's host, for the engine call; a rendered command
            looks them up when it runs.
        groups: device nodes of the IOMMU groups bound to vfio-pci on the engine's host, for the engine call only.
    """

    id: str
    summary: str
    exposures: tuple[Exposure, ...]
    image: ImageClaims
    permissions: Mapping[str, str] = field(default_factory=dict)
    default_capabilities: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    majors: Mapping[str, int] = field(default_factory=dict)
    groups: Sequence[str] = ()

    @property
    def port(self) -> int:
        """Return the container's API port."""
        return self.image.port

    @property
    def capabilities(self) -> list[str]:
        """Return the capabilities that the mode names."""
        return [exposure.id for exposure in self.exposures if isinstance(exposure, Capability)]

    @property
    def granted(self) -> frozenset[str]:
        """Return all capabilities of a container; does not apply to ``--privileged``."""
        return frozenset(self.capabilities) | (DEFAULT_CAPABILITIES if self.default_capabilities else frozenset())

    @property
    def devices(self) -> list[str]:
        """Return the paths of exposed devices, without those of IOMMU groups."""
        return [exposure.path for exposure in self.exposures if isinstance(exposure, Device)]

    @property
    def vfio(self) -> bool:
        """Return whether PCI devices that the host binds to vfio-pci are exposed."""
        return any(isinstance(exposure, VfioGroup) for exposure in self.exposures)

    @property
    def unlimited(self) -> list[str]:
        """Return the names of the removed resource limits."""
        return [exposure.name for exposure in self.exposures if isinstance(exposure, Ulimit)]

    @property
    def drivers(self) -> list[str]:
        """Return the drivers whose devices the container may create and open."""
        return [exposure.driver for exposure in self.exposures if isinstance(exposure, DeviceRule)]

    @property
    def mounts(self) -> list[Mount]:
        """Return the exposed folders of the host."""
        return [exposure for exposure in self.exposures if isinstance(exposure, Mount)]

    @property
    def security_options(self) -> list[str]:
        """Return the values of ``--security-opt``."""
        return [exposure.option for exposure in self.exposures if isinstance(exposure, SecurityOption)]

    @property
    def apparmor(self) -> str:
        """Return the security option that chooses an AppArmor profile, or none; empty for the engine's own choice."""
        return next((option for option in self.security_options if option.startswith("apparmor=")), "")

    @property
    def profile(self) -> str:
        """Return the name of the project's own AppArmor profile that confines the container; empty for any other."""
        return "" if self.apparmor == UNCONFINED else self.apparmor.removeprefix("apparmor=")

    @property
    def unmasked(self) -> bool:
        """Return whether no path under /proc and /sys is masked or read-only."""
        return self.privileged or SYSTEM_PATHS in self.security_options

    @property
    def privileged(self) -> bool:
        """Return whether this is ``--privileged``."""
        return any(isinstance(exposure, Privileged) for exposure in self.exposures)

    @property
    def cgroup_namespace(self) -> str:
        """Return ``host``, ``private``, or nothing for the engine's own choice."""
        return next((exposure.value for exposure in self.exposures if isinstance(exposure, CgroupNamespace)), "")

    @property
    def host_network(self) -> bool:
        """Return whether the container is in its host's network."""
        return any(isinstance(exposure, Network) for exposure in self.exposures)

    @property
    def hosts_devices(self) -> bool:
        """Return whether /dev is the host's own, so that new devices appear in the container."""
        return any(mount.target == "/dev" for mount in self.mounts)

    @property
    def restarts(self) -> bool:
        """Return whether the engine may restart a user's container.

        It may not if the command looks up device numbers: after a reboot they may belong to other devices.
        """
        return not self.drivers and not self.vfio

    def exposes(self, path: str) -> bool:
        """Return whether a device is exposed, by its path or by ``--privileged``."""
        return self.privileged or path in self.devices

    def as_json(self) -> dict[str, Any]:
        """Return the mode as data for JSON."""
        return {
            "id": self.id,
            "summary": self.summary,
            "exposures": [exposure.model_dump() for exposure in self.exposures],
            "environment": dict(self.environment),
        }

    def engine_call(
        self,
        image: str,
        *,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        network: str = "default",
        host_port: int | None = None,
        port: int | None = None,
        health_seconds: float | None = None,
    ) -> dict[str, Any]:
        """Render the container as a body for the engine's ``POST /containers/create``.

        The engine never restarts it, so that a crash is visible.

        Args:
            image: the image's tag or id.
            environment: variables beside the mode's own.
            volumes: container path by volume name; anonymous volumes by default.
            labels: the container's labels.
            network: the bridge network; no effect in the host's network.
            host_port: the published port on the loopback address; 0 lets the engine choose, None is the port in the
                container.
            port: the API's port in the container, if not the contract's.
            health_seconds: interval of the image's health check; the image's own by default.

        Raises:
            KeyError: the number of a driver is not in :attr:`majors`.
        """
        port = port or self.port
        host_config: dict[str, Any] = {
            "Privileged": self.privileged,
            "CapAdd": self.capabilities or None,
            "CapDrop": None if self.default_capabilities else ["ALL"],
            "Devices": [
                {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
                for path in (*self.devices, *self.groups)
            ],
            "DeviceCgroupRules": [RULE.format(major=self.majors[driver]) for driver in self.drivers] or None,
            "Ulimits": [{"Name": name, "Soft": -1, "Hard": -1} for name in self.unlimited] or None,
            "Binds": [f"{mount.source}:{mount.target}:{mount.access}" for mount in self.mounts]
            + [f"{volume}:{path}" for volume, path in (volumes or {}).items()],
            "SecurityOpt": [option for option in self.security_options if option != SYSTEM_PATHS] or None,
            "CgroupnsMode": self.cgroup_namespace,
            "NetworkMode": "host" if self.host_network else network,
        }
        if SYSTEM_PATHS in self.security_options:
            host_config |= {"MaskedPaths": [], "ReadonlyPaths": []}
        if not self.host_network:
            published = port if host_port is None else host_port
            host_config["PortBindings"] = {
                f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(published) if published else ""}]
            }
        command = {"Cmd": list(self.image.command)} if self.image.command else {}
        # Other settings of the health check stay the image's own (moby's runconfig merges both).
        health = {"Healthcheck": {"Interval": int(health_seconds * 1e9)}} if health_seconds else {}
        return {
            "Image": image,
            **command,
            **health,
            "Env": [f"{name}={value}" for name, value in {**self.environment, **(environment or {})}.items()],
            "ExposedPorts": {} if self.host_network else {f"{port}/tcp": {}},
            "Labels": dict(labels or {}),
            "StopTimeout": STOP_TIMEOUT,
            "HostConfig": host_config,
        }


def from_contract(contract: Contract, mode_id: str, without: Iterable[str] = ()) -> Mode:
    """Return a mode of the contract, optionally without some of its parts.

    Args:
        contract: the contract that defines it.
        mode_id: the mode's id.
        without: ids of the parts to remove: exposures, default capabilities, and functions of the image that a switch
            turns off.

    Raises:
        ContractError: the contract has no such mode, or the mode has no such part.
    """
    claims = contract.mode(mode_id)
    there, gone = removable(contract, claims), list(dict.fromkeys(without))
    for one in gone:
        if one not in there:
            raise ContractError(f"mode {mode_id} has no {one!r}", f"choose one of: {', '.join(there)}")
    # To remove one default capability, drop all and name the others.
    named = claims.default_capabilities and bool(DEFAULT_CAPABILITIES & {*gone})
    wanted = {*claims.exposures, *(DEFAULT_CAPABILITIES if named else ())} - {*gone}
    exposures = tuple(one for one in contract.exposures if one.id in wanted)
    switched_off = {*claims.switched_off, *gone}
    environment = {switch.variable: switch.off for switch in contract.switches if switch.id in switched_off}
    for exposure in exposures:
        environment |= exposure.environment
    return Mode(
        id="-without-".join([claims.id, *gone]),
        summary=claims.summary,
        exposures=exposures,
        image=contract.image,
        permissions=_permissions(contract, exposures),
        default_capabilities=claims.default_capabilities and not named,
        environment=environment,
        volumes={volume.name: volume.path for volume in contract.volumes},
    )


def for_host(contract: Contract, mode_id: str, *, kvm: bool) -> Mode:
    """Return a mode for the commands of one host: the same mode, without a /dev/kvm that cannot be used there.

    Args:
        contract: the contract that defines it.
        mode_id: the mode's id.
        kvm: whether the host's KVM can be used, as far as known.
    """
    lacking = [KVM] if not kvm and KVM in contract.mode(mode_id).exposures else []
    return replace(from_contract(contract, mode_id, lacking), id=mode_id)


def without_module(contract: Contract, one: Mode, module: str) -> str:
    """Return the id of the mode that equals another mode on hosts without a security module; empty if none does.

    If several modes are equal, the result is the first in the contract's order.

    Args:
        contract: the contract, for its modes.
        one: the mode.
        module: one of :data:`MODULES`.
    """

    def rest(mode: Mode) -> list[Exposure]:
        obeyed = OBEYED[module]
        return [exposure for exposure in mode.exposures if not getattr(exposure, "option", "").startswith(obeyed)]

    if rest(one) == [*one.exposures]:
        return ""
    for claims in itertools.takewhile(lambda claims: claims.id != one.id, contract.modes):
        other = from_contract(contract, claims.id)
        if (
            rest(other) == rest(one)
            and other.environment == one.environment
            and other.default_capabilities == one.default_capabilities
        ):
            return other.id
    return ""


def needs_module(contract: Contract, one: Mode) -> bool:
    """Return whether a mode equals another mode on hosts without some security module."""
    return any(without_module(contract, one, module) for module in MODULES)


def removable(contract: Contract, claims: ModeClaims) -> tuple[str, ...]:
    """Return the ids of all parts that can be removed from a mode, in the contract's order."""
    wanted = {*claims.exposures, *(DEFAULT_CAPABILITIES if claims.default_capabilities else ())}
    return (
        *(one.id for one in contract.exposures if one.id in wanted),
        *(one.id for one in contract.switches if one.id not in claims.switched_off),
    )


def _permissions(contract: Contract, exposures: Iterable[Exposure]) -> dict[str, str]:
    if any(isinstance(exposure, Privileged) for exposure in exposures):
        # --privileged exposes every documented path at its place on the host.
        documented = (one for one in contract.exposures if one.documented != "undocumented")
        paths = [(one.path if isinstance(one, Device) else one.source, one) for one in _paths(documented)]
    else:
        paths = []
    paths += [(one.path if isinstance(one, Device) else one.target, one) for one in _paths(exposures)]
    return {path: one.permission for path, one in paths}


def _paths(exposures: Iterable[Exposure]) -> list[Device | Mount]:
    return [one for one in exposures if isinstance(one, Device | Mount)]
