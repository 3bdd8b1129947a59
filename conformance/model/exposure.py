"""Exposures: the parts of the host that a container can have."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Need = Literal["required", "recommended", "discretionary", "optional", "default", "undocumented"]
"""The documented need for an exposure; ``default`` is granted by Docker's defaults, ``undocumented`` was found by
measurement."""

UNCONFINED = "apparmor=unconfined"
"""The security option that has no effect on an engine without AppArmor."""

Permission = Annotated[str, Field(pattern=r"^[0-7]{3}$")]
"""A documented permission mode, in octal."""


class Data(BaseModel):
    """The base of everything in the contract: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Exposure(Data):
    id: str
    function: str
    documented: Need
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that the image needs with this exposure."""


class Device(_Exposure):
    """A device node of the host."""

    kind: Literal["device"]
    path: str
    permission: Permission


class DeviceRule(_Exposure):
    """A cgroup rule that lets a container create and open all devices of a driver, including future ones."""

    kind: Literal["device-rule"]
    driver: str = Field(pattern=r"^[a-z0-9_]+$")
    """Its name in /proc/devices, which has its number; that number can change with each boot."""


class VfioGroup(_Exposure):
    """A PCI device of the host with its IOMMU group; the host binds it to vfio-pci first."""

    kind: Literal["vfio-group"]


class Ulimit(_Exposure):
    """A resource limit that is removed for the container's processes."""

    kind: Literal["ulimit"]
    name: Literal["memlock"]
    """The name in Docker's ``--ulimit``."""


class Mount(_Exposure):
    """A folder of the host; writable if its permission mode is."""

    kind: Literal["mount"]
    source: str
    target: str
    permission: Permission

    @property
    def access(self) -> Literal["rw", "ro"]:
        """Return the mount option for its access."""
        return "rw" if int(self.permission[0]) & 2 else "ro"


class Capability(_Exposure):
    """A Linux capability; its id is the name without ``CAP_``."""

    kind: Literal["capability"]


class SecurityOption(_Exposure):
    """A value of Docker's ``--security-opt``."""

    kind: Literal["security-option"]
    option: str


class CgroupNamespace(_Exposure):
    """A value of Docker's ``--cgroupns``."""

    kind: Literal["cgroup-namespace"]
    value: Literal["host", "private"]


class Network(_Exposure):
    """A value of Docker's ``--network`` that is not a bridge."""

    kind: Literal["network"]
    value: Literal["host"]


class Privileged(_Exposure):
    """Docker's ``--privileged``."""

    kind: Literal["privileged"]


Exposure = Annotated[
    Device
    | DeviceRule
    | VfioGroup
    | Ulimit
    | Mount
    | Capability
    | SecurityOption
    | CgroupNamespace
    | Network
    | Privileged,
    Field(discriminator="kind"),
]
