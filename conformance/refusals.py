"""What AppArmor refused a container, as the kernel of the engine's host logged it.

What a profile denies in so many words (``deny``) is not logged, and so Docker's denies mounts and /proc/sys. The kernel
logs it all the same while AppArmor's parameter ``audit`` is ``noquiet`` (security/apparmor/audit.c).
"""

import re
from collections.abc import Iterator
from datetime import datetime

import docker

from conformance import throwaway
from conformance.engine import engine_errors

ENGINES_OWN = "docker-default"
"""The profile by which Docker confines a container that asks for no other."""

MOST = 8
"""As many as a record keeps."""

PARAMETER = "/host/sys/module/apparmor/parameters/audit"

REFUSAL = re.compile(r'audit\((?P<time>\d+\.\d+):\d+\): apparmor="DENIED" (?P<fields>.*)')

FIELD = re.compile(r'(\w+)="([^"]*)"')

NUMBERED = re.compile(r"(?<=virbr)\d+|(?<=vnet)\d+|(?<=macvtap)\d+|(?<=qemu/)\d+-[^./]*")
"""The numbers of links, and the domains' names: the same rule refuses the next one, too."""


def log_all(client: docker.DockerClient, image: str, run: str) -> None:
    """Have the kernel of the engine's host log what profiles keep silent about; for a host that nobody else uses.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        throwaway.output(
            client,
            image,
            ["sh", "-c", f"printf noquiet >{PARAMETER}"],
            run=run,
            network_mode="none",
            binds=["/:/host"],
            cap_add=["MAC_ADMIN"],
            security_opt=["apparmor=unconfined"],
        )


def since(client: docker.DockerClient, image: str, run: str, stamp: str, profile: str) -> list[str]:
    """Return what was refused to whom a profile confines, each once, oldest first.

    Args:
        client: the engine.
        image: an image with dmesg: the image under test has it.
        run: the run's id, for the label.
        stamp: from when on, as the engine writes times; everything if empty.
        profile: the profile's name.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        logged = throwaway.output(
            client,
            image,
            ["dmesg"],
            run=run,
            network_mode="none",
            cap_add=["SYSLOG"],
            security_opt=["apparmor=unconfined"],
        )
    after = datetime.fromisoformat(_microseconds(stamp)).timestamp() if stamp else 0.0
    return list(dict.fromkeys(_lines(logged, after, profile)))[:MOST]


def _microseconds(stamp: str) -> str:
    """Cut the engine's nanoseconds off: Python's times have none."""
    return re.sub(r"(\.\d{6})\d+", r"\1", stamp)


def _lines(logged: str, after: float, profile: str) -> Iterator[str]:
    for refusal in REFUSAL.finditer(logged):
        fields = dict(FIELD.findall(refusal["fields"]))
        if float(refusal["time"]) <= after or fields.get("profile") != profile:
            continue
        name = NUMBERED.sub("N", fields.get("name", ""))
        how = fields.get("flags") or fields.get("denied_mask") or fields.get("peer") or fields.get("capname", "")
        yield f"{profile} refuses {fields.get('operation')} {name}".strip() + (f" ({how})" if how else "")
