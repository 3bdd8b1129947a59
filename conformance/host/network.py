"""The host's links, routes and firewall rules, as a container in the host's network sees them."""

import re

import docker

from conformance.engine import one_shot
from conformance.engine.api_errors import engine_errors

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
"""Links, routes and rules that the engine makes and removes for any container come and go by themselves."""

COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*| expires \d+sec")
"""What changes by itself: packets that rules have met, when that was, how long what a router announced is good."""


def snapshot(client: docker.DockerClient, image: str, run: str) -> frozenset[str]:
    """Return the host's network state, without what belongs to the engine.

    Args:
        client: the engine.
        image: any image with ip, iptables and sh: the image under test has them.
        run: the run's id, for the label.

    Raises:
        EngineError: the engine refused.
    """
    with engine_errors():
        return parse(
            one_shot.output(
                client, image, ["sh", "-c", SCRIPT], run=run, network_mode="host", cap_add=["NET_ADMIN", "NET_RAW"]
            )
        )


def parse(output: str) -> frozenset[str]:
    """Reduce the output of :data:`SCRIPT` to what is the host's own."""
    lines = (COUNTERS.sub("", line).strip() for line in output.splitlines())
    return frozenset(line for line in lines if line and not ENGINES_OWN.search(line))
