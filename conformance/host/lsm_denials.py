"""What AppArmor or SELinux refused a container, as the kernel of the engine's host logged it.

What an AppArmor profile denies in so many words (``deny``) is not logged, and so Docker's denies mounts and /proc/sys.
The kernel logs it all the same while AppArmor's parameter ``audit`` is ``noquiet`` (security/apparmor/audit.c).
"""

import re
from collections.abc import Iterator
from datetime import datetime

import docker

from conformance.engine import one_shot
from conformance.engine.api_errors import engine_errors

ENGINES_OWN = "docker-default"
"""The profile by which Docker confines a container that asks for no other."""

CONTAINERS = "container_t"
"""The type by which SELinux confines a container that is not told otherwise (the reference policy's container.te)."""

MOST = 8
"""As many as a record keeps."""

PARAMETER = "/host/sys/module/apparmor/parameters/audit"

REFUSAL = re.compile(r'audit\((?P<time>\d+\.\d+):\d+\): apparmor="DENIED" (?P<fields>.*)')

AVC = re.compile(r"audit\((?P<time>\d+\.\d+):\d+\): avc:  denied  { (?P<what>[^}]*) } for (?P<fields>.*)")

FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')

NUMBERED = re.compile(r"(?<=virbr)\d+|(?<=vnet)\d+|(?<=macvtap)\d+|(?<=qemu/)\d+-[^./]*")
"""The numbers of links, and the domains' names: the same rule refuses the next one, too."""


def log_all(client: docker.DockerClient, image: str, run: str) -> None:
    """Have the kernel of the engine's host log what profiles keep silent about; for a host that nobody else uses.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        one_shot.output(
            client,
            image,
            ["sh", "-c", f"printf noquiet >{PARAMETER}"],
            run=run,
            network_mode="none",
            binds=["/:/host"],
            cap_add=["MAC_ADMIN"],
            security_opt=["apparmor=unconfined"],
        )


def since(client: docker.DockerClient, image: str, run: str, stamp: str, who: str) -> list[str]:
    """Return what was refused to a container, each once, oldest first.

    Args:
        client: the engine.
        image: an image with dmesg: the image under test has it.
        run: the run's id, for the label.
        stamp: from when on, as the engine writes times; everything if empty.
        who: the AppArmor profile or the SELinux type by which it is confined.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        logged = one_shot.output(
            client,
            image,
            ["dmesg"],
            run=run,
            network_mode="none",
            cap_add=["SYSLOG"],
            security_opt=["apparmor=unconfined"],
        )
    after = datetime.fromisoformat(_microseconds(stamp)).timestamp() if stamp else 0.0
    found = [*_by_apparmor(logged, after, who), *_by_selinux(logged, after, who)]
    return list(dict.fromkeys(found))[:MOST]


def _microseconds(stamp: str) -> str:
    """Cut the engine's nanoseconds off: Python's times have none."""
    return re.sub(r"(\.\d{6})\d+", r"\1", stamp)


def _by_apparmor(logged: str, after: float, profile: str) -> Iterator[str]:
    for refusal in REFUSAL.finditer(logged):
        fields = _fields(refusal)
        if float(refusal["time"]) > after and fields.get("profile") == profile:
            how = fields.get("flags") or fields.get("denied_mask") or fields.get("peer") or fields.get("capname", "")
            yield _line(profile, fields.get("operation", ""), fields.get("name", ""), how)


def _by_selinux(logged: str, after: float, kind: str) -> Iterator[str]:
    for refusal in AVC.finditer(logged):
        fields = _fields(refusal)
        # A context is user, role, type and level.
        if float(refusal["time"]) > after and kind in fields.get("scontext", "").split(":"):
            name = fields.get("path") or fields.get("name", "")
            yield _line(kind, refusal["what"], name, fields.get("tclass", ""))


def _fields(refusal: re.Match[str]) -> dict[str, str]:
    return {key: quoted or bare for key, quoted, bare in FIELD.findall(refusal["fields"])}


def _line(who: str, what: str, name: str, how: str) -> str:
    return f"{who} refuses {what} {NUMBERED.sub('N', name)}".strip() + (f" ({how})" if how else "")
