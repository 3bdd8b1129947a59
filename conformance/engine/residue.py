"""Leftovers of a stopped Docker engine on its host, and their removal.

A stopped dockerd leaves its bridge, its firewall chains and rules, IP forwarding switched on, empty control groups and
(up to 20.10) a key.
"""

import contextlib
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.errors import EngineError

_TOOLS = ("iptables", "ip6tables")
_SYSCTLS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
_KEY = Path("/etc/docker/key.json")
_DOCKERS_LINK = re.compile(r"docker0|br-[0-9a-f]{12}")
_DOCKERS_RULE = re.compile(
    r"\bDOCKER|\bdocker0\b|\bbr-[0-9a-f]{12}\b"
    r"|^-A POSTROUTING -s (\S+) -d \1 .*-j MASQUERADE$"  # the hairpin rule of a published port names no bridge
)

Firewall = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Tool to table to lines, as ``iptables-save`` prints them, without counters."""


@dataclass(frozen=True)
class Host:
    """The state of a host in what an engine changes."""

    boot: str
    """The boot's ID: a state of an earlier boot says nothing."""
    links: tuple[str, ...]
    sysctls: dict[str, str]
    firewall: Firewall
    key: bool

    def to_json(self) -> str:
        """Return the state as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Host":
        """Read a state; raises ValueError, KeyError, TypeError or AttributeError if the text is none."""
        data = json.loads(text)
        firewall = read_firewall(data["firewall"])
        return cls(data["boot"], tuple(data["links"]), data["sysctls"], firewall, data["key"])


def look() -> Host:
    """Return the host's present state.

    Raises:
        EngineError: iptables is missing or does not answer.
    """
    return Host(
        boot=boot(),
        links=tuple(name for _, name in socket.if_nameindex()),  # /sys may show another network namespace
        sysctls={name: value for name in _SYSCTLS if (value := _read(Path("/proc/sys") / name)) is not None},
        firewall={tool: parse_rules(_run([f"{tool}-save"])) for tool in _TOOLS},
        key=_KEY.exists(),
    )


def boot() -> str:
    """Return the ID of the machine's present boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def remove(before: Host) -> None:
    """Undo a Docker engine's changes since ``before``; changes by others stay.

    Raises:
        EngineError: a step failed; the others were tried all the same.
    """
    now = look()
    failures: list[str] = []
    for command in commands(before, now):
        try:
            _run(command)
        except EngineError as error:
            failures.append(error.message)
    for name, value in before.sysctls.items():
        if now.sysctls.get(name) != value:
            (Path("/proc/sys") / name).write_text(value, encoding="ascii")
    if not before.key:
        _KEY.unlink(missing_ok=True)
    if failures:
        raise EngineError(
            "leftovers of the private engine cannot be removed: " + "; ".join(failures), "run again, as root"
        )


def remove_groups(containers: Iterable[str], *, shared: bool) -> None:
    """Remove the control groups of containers that were killed with their engine.

    Args:
        containers: the containers' full IDs.
        shared: leave the group in which every engine of the machine, whatever its network, puts its containers.
    """
    root = Path("/sys/fs/cgroup")
    # The containers' own are named by their ID by cgroupfs, docker-ID.scope by systemd (runc's two drivers).
    groups = [
        group for container in containers for top in root.rglob(f"*{container}*/") for group in (top, *top.rglob("*/"))
    ]
    groups = sorted(groups, key=lambda group: len(group.parts), reverse=True)
    if not shared:
        groups += [root / "docker", *root.glob("*/docker")]
    for group in groups:
        with contextlib.suppress(OSError):  # not there, or in use
            group.rmdir()


def commands(before: Host, now: Host) -> list[list[str]]:
    """Return the commands that take Docker's links and firewall entries away that were not there before."""
    policies = [
        [tool, "--wait", "10", "--table", "filter", "--policy", "FORWARD", "ACCEPT"]
        for tool, tables in now.firewall.items()
        if ":FORWARD DROP" in tables.get("filter", ())
        and ":FORWARD DROP" not in before.firewall.get(tool, {}).get("filter", ())
    ]
    return [
        *without_rules(before.firewall, now.firewall, _DOCKERS_RULE),
        *policies,
        *without_links(before.links, now.links, _DOCKERS_LINK),
    ]


def without_rules(before: Firewall, now: Firewall, mark: re.Pattern[str]) -> list[list[str]]:
    """Return the commands that take chains and rules away that were not there before and bear a mark."""
    todo: list[list[str]] = []
    for tool, tables in now.items():
        for table, lines in tables.items():
            base = [tool, "--wait", "10", "--table", table]
            old = before.get(tool, {}).get(table, ())
            added = [line for line in lines if line not in old and mark.search(line)]
            chains = [line[1:].split()[0] for line in added if line.startswith(":")]
            rules = [shlex.split(line) for line in added if line.startswith("-A ")]
            # First nothing may refer to a chain any more, neither from outside nor from another of its kind.
            todo += [[*base, "-D", *rule[1:]] for rule in rules if rule[1] not in chains]
            todo += [[*base, "--flush", chain] for chain in chains]
            todo += [[*base, "--delete-chain", chain] for chain in chains]
    return todo


def without_links(before: Sequence[str], now: Sequence[str], mark: re.Pattern[str]) -> list[list[str]]:
    """Return the commands that take links away that were not there before and bear such a name."""
    return [["ip", "link", "delete", link] for link in now if link not in before and mark.fullmatch(link)]


def read_firewall(data: Any) -> dict[str, dict[str, tuple[str, ...]]]:
    """Read rules from what JSON made of them; raises AttributeError or TypeError if it is none."""
    return {tool: {table: tuple(lines) for table, lines in tables.items()} for tool, tables in data.items()}


def parse_rules(saved: str) -> dict[str, tuple[str, ...]]:
    """Return what ``iptables-save`` printed, by table, without comments and counters."""
    tables: dict[str, tuple[str, ...]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
            tables[table] = ()
        elif line.startswith((":", "-A ")):
            tables[table] += (re.sub(r" \[\d+:\d+\]$", "", line.strip()),)
    return tables


def _run(command: list[str]) -> str:
    shown = shlex.join(command)
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    except FileNotFoundError as error:
        raise EngineError(f"the program {command[0]} is missing", "sudo apt-get install iptables iproute2") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{shown} did not end within 30 s", "see which program holds the firewall's lock (/run/xtables.lock)"
        ) from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"{shown} failed: {error.stderr.strip() or f'status {error.returncode}'}") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None
