"""Denials by AppArmor or SELinux in the kernel log of the engine's host.

The kernel does not log denials by an explicit ``deny`` rule, and by such rules Docker's profile denies mounts and
/proc/sys. It logs these denials, too, while AppArmor's parameter ``audit`` is ``noquiet`` (security/apparmor/audit.c).
"""

import re
from collections.abc import Iterator
from datetime import datetime

from conformance.engine.host_shell import HostShell

ENGINES_OWN = "docker-default"
"""Docker's default profile."""

CONTAINERS = "container_t"
"""SELinux's default type of containers (the reference policy's container.te)."""

MOST = 8
"""Number of denials that a record keeps."""

PARAMETER = "/host/sys/module/apparmor/parameters/audit"

REFUSAL = re.compile(r'audit\((?P<time>\d+\.\d+):\d+\): apparmor="DENIED" (?P<fields>.*)')

AVC = re.compile(r"audit\((?P<time>\d+\.\d+):\d+\): avc:  denied  { (?P<what>[^}]*) } for (?P<fields>.*)")

FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')

NUMBERED = re.compile(r"(?<=virbr)\d+|(?<=vnet)\d+|(?<=macvtap)\d+|(?<=qemu/)\d+-[^./]*")
"""Numbers of links and names of domains: one rule denies all of them, and one line of the report is enough."""


def log_all(shell: HostShell) -> None:
    """Let the kernel of the engine's host log quiet denials, too; for a host that nobody else uses.

    Raises:
        EngineError: the engine refused.
    """
    shell.run(
        f"printf noquiet >{PARAMETER}",
        binds=["/:/host"],
        cap_add=["MAC_ADMIN"],
        security_opt=["apparmor=unconfined"],
    )


def since(shell: HostShell, stamp: str, who: str) -> list[str]:
    """Return the denials of a container, each once, oldest first.

    Args:
        shell: on the host, with dmesg.
        stamp: earliest time, as the engine writes times; the whole log if empty.
        who: the AppArmor profile or the SELinux type that confines the container.

    Raises:
        EngineError: the engine refused.
    """
    logged = shell.output(["dmesg"], cap_add=["SYSLOG"], security_opt=["apparmor=unconfined"])
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
