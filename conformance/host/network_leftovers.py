"""libvirt's leftovers in the host's network after its container was killed and removed, and their removal.

A container that ends by itself removes its bridge and firewall chains. A killed one leaves them for its next start; a
killed and removed one never starts again. Links and rules of others stay: they were there before (a volume on the
engine remembers that state beyond the end of the run), or another libvirt is in this network, and nothing is removed.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from conformance.engine import labels, residue
from conformance.engine.host_shell import HostShell
from conformance.engine.residue import Firewall
from conformance.errors import EngineError
from conformance.host.change import HostChange

LINK = re.compile(r"virbr\d+|vnet\d+|macvtap\d+")
"""Names that libvirt gives to its bridges, taps and macvtap interfaces (libvirt's virnetdev.h, bridge_driver.c)."""

RULE = re.compile(r"\bLIBVIRT_")
"""Chains of the iptables backend, and the rules that jump to them; all other rules are in these chains."""

UNUSED = re.compile(r":\S+ ACCEPT")
"""A built-in chain with the default policy; chains of others have no policy."""

FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}
"""nft's names of the tools' address families."""

LOOK = r"""
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
ip -o link | sed -n 's/^[0-9]*: \([^:@ ]*\).*/link \1/p'
for tool in iptables ip6tables; do $tool-save | sed "s/^/$tool /"; done
here=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
    name=$(cat $process/comm)
    case "$name" in
        libvirtd | virtnetworkd | virtqemud) ;;
        dnsmasq) grep -q libvirt $process/cmdline || continue ;;
        *) continue ;;
    esac
    net=$(readlink $process/ns/net)
    [ ! -e $process/comm ] || [ "$net" -a "$net" != "$here" ] || echo "other $name (process ${process#/proc/})"
done 2>/dev/null
for network in /host-run/libvirt/network/*.xml; do
    [ ! -e "$network" ] || echo "other libvirt of the host, whose network $(basename "$network" .xml) is active"
done
true
"""
"""Runs in the namespaces of the host, with its /run. A process whose network is unknown counts as being here."""


@dataclass(frozen=True)
class State:
    """The parts of a host's network that libvirt changes.

    Attributes:
        boot: the boot's ID; a state of an earlier boot is out of date.
        links: their names.
        firewall: its rules.
        others: other libvirts in this network now.
    """

    boot: str
    links: tuple[str, ...]
    firewall: Firewall
    others: tuple[str, ...] = ()


def remember(shell: HostShell) -> None:
    """Keep the state of the host's network on the engine, until the run's end and beyond (:data:`CHANGE`).

    Args:
        shell: on the host, with ip, iptables and nft.

    Raises:
        EngineError: the engine refused.
    """
    CHANGE.remember(shell, json.dumps(asdict(_look(shell))))


def _restore(shell: HostShell, remembered: str) -> str:
    """Remove libvirt's leftovers from the host's network.

    No container of the run exists any more. While another libvirt is in this network, leftovers stay: nobody can tell
    which of them are that libvirt's.

    Returns:
        The leftovers that were removed, or that stay and why, in one line; empty where there were none.

    Raises:
        EngineError: the engine refused, or leftovers are still there.
    """
    before = _read(remembered)
    now = _look(shell)
    todo = commands(before, now) if before else []
    if not todo:
        return ""
    if now.others:
        return f"in the host's network: not removed, since {', '.join(now.others)} is there too: {_names(todo)}"
    left = commands(before, _look(shell, todo)) if before else []
    if left:
        raise EngineError(
            f"leftovers of a killed container cannot be removed from the host's network: {_names(left)}",
            f"run as root on that host: {'; '.join(map(shlex.join, left))}",
        )
    return f"in the host's network: {_names(todo)}"


CHANGE = HostChange(labels.HOST_BEFORE, _restore, in_host_network=True)
"""Links and firewall rules of libvirt; the label holds the host's :class:`State` without them, as JSON."""


def commands(before: State, now: State) -> list[list[str]]:
    """Return the commands that remove libvirt's links and rules that were not there before."""
    if before.boot != now.boot:
        return []
    rules = residue.without_rules(before.firewall, now.firewall, RULE)
    # Tables that were made for libvirt's chains; what holds anybody else's rules by now stays.
    tables = [
        ["nft", "delete", "table", FAMILIES[tool], table]
        for tool, now_there in now.firewall.items()
        for table, lines in now_there.items()
        if table not in before.firewall.get(tool, {}) and all(_nobodys(line) for line in lines)
    ]
    return [*rules, *tables, *residue.without_links(before.links, now.links, LINK)]


def _nobodys(line: str) -> bool:
    return bool(UNUSED.fullmatch(line) or RULE.search(line))


def parse(output: str) -> State:
    """Read what :data:`LOOK` wrote.

    Raises:
        EngineError: it is not whole.
    """
    lines: dict[str, list[str]] = {}
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        lines.setdefault(kind, []).append(rest)
    if not lines.get("boot") or not lines.get("link"):
        raise EngineError(f"the state of the host's network cannot be read: {output.strip()[-300:]}")
    firewall = {tool: residue.parse_rules("\n".join(lines.get(tool, ()))) for tool in FAMILIES}
    return State(lines["boot"][0], tuple(lines["link"]), firewall, tuple(lines.get("other", ())))


def _look(shell: HostShell, first: Sequence[Sequence[str]] = ()) -> State:
    """Return the state of the host's network, after running some commands in it."""
    output = shell.run(
        "\n".join([*(f"{shlex.join(command)} >&2" for command in first), LOOK]),
        network_mode="host",
        pid_mode="host",
        cap_add=["NET_ADMIN", "NET_RAW", "SYS_PTRACE"],
        security_opt=["apparmor=unconfined"],  # Docker's profile hides the namespaces of other processes
        binds=["/run:/host-run:ro"],
    )
    return parse(output)


def _read(text: str) -> State | None:
    """Read a state; None if the text is not one."""
    try:
        data = json.loads(text)
        return State(data["boot"], tuple(data["links"]), residue.read_firewall(data["firewall"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _names(todo: Sequence[Sequence[str]]) -> str:
    """Name the chains, tables and links that commands remove; rules go with their chains."""
    named = [command[-1] for command in todo if command[-2] in ("delete", "--delete-chain", *FAMILIES.values())]
    return ", ".join(dict.fromkeys(named)) or f"{len(todo)} firewall rules"
