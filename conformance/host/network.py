"""The host's links, routes and firewall rules, as a container in the host's network sees them."""

import re

from conformance.engine.host_shell import HostShell

SCRIPT = r"""
ip -o link | sed 's/^[0-9]*: //; s/ mtu .*//'
ip route show table all
ip -6 route show table all
iptables-save; ip6tables-save
sysctl net.ipv4.ip_forward 2>/dev/null
true
"""

ENGINES_OWN = re.compile(
    r"\b(docker0|br-[0-9a-f]{12}|veth[0-9a-f]+|DOCKER\S*)\b"
    r"|^-A POSTROUTING -s (\S+) -d \2 .*-j MASQUERADE$"  # the hairpin rule of a published port names no bridge
)
"""Links, routes and rules that the engine adds and removes with any container."""

COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*| expires \d+sec")
"""Parts that change by themselves: packet counters, times of day, remaining lifetimes of announced routes."""


def snapshot(shell: HostShell) -> frozenset[str]:
    """Return the state of the host's network, without the engine's own links, routes and rules.

    Args:
        shell: on the host, with ip, iptables and sysctl.

    Raises:
        EngineError: the engine refused.
    """
    return parse(shell.run(SCRIPT, network_mode="host", cap_add=["NET_ADMIN", "NET_RAW"]))


def parse(output: str) -> frozenset[str]:
    """Reduce the output of :data:`SCRIPT` to the host's own links, routes and rules."""
    lines = (COUNTERS.sub("", line).strip() for line in output.splitlines())
    return frozenset(line for line in lines if line and not ENGINES_OWN.search(line))
