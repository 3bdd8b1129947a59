"""Exposures: the parts of the host that a container can have."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Need = Literal["required", "recommended", "discretionary", "optional", "default", "undocumented"]
"""What the documentation says of an exposure: ``default`` is what an engine gives without being asked, and of what a
measurement found it says nothing."""

UNCONFINED = "apparmor=unconfined"
"""The security option that means nothing to an engine without AppArmor."""

Permission = Annotated[str, Field(pattern=r"^[0-7]{3}$")]
"""A permission mode in octal, as the documentation gives it."""


class Data(BaseModel):
    """The base of everything in the contract: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Exposure(Data):
    id: str
    function: str
    documented: Need
    environment: dict[str, str] = Field(default_factory=dict)
    """What the image has to be told where it has this."""


class Device(_Exposure):
    """A device node of the host."""

    kind: Literal["device"]
    path: str
    permission: Permission


class DeviceRule(_Exposure):
    """A rule by which a container may make and open all devices of a driver, also those that come later."""

    kind: Literal["device-rule"]
    driver: str = Field(pattern=r"^[a-z0-9_]+$")
    """Its name in /proc/devices, where the kernel gives it a number, which may be another one after each boot."""


class VfioGroup(_Exposure):
    """A PCI device of the host with its IOMMU group, which is looked up there; it is bound to vfio-pci beforehand."""

    kind: Literal["vfio-group"]


class Ulimit(_Exposure):
    """A limit of the container's processes that is lifted."""

    kind: Literal["ulimit"]
    name: Literal["memlock"]
    """As Docker's ``--ulimit`` has it."""


class Mount(_Exposure):
    """A folder of the host; writable, if its permission mode is."""

    kind: Literal["mount"]
    source: str
    target: str
    permission: Permission

    @property
    def access(self) -> Literal["rw", "ro"]:
        """Return the option of the mount that says whether it is writable."""
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
