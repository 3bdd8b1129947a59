"""Major numbers of character device drivers on the engine's host; they may change with each boot."""

from collections.abc import Mapping, Sequence

from conformance.engine.host_shell import HostShell
from conformance.errors import Unsupported

SCRIPT = """
for driver in "$@"; do ip link add link lo name module type "$driver" 2>/dev/null; done
cat /proc/devices
"""
"""For a link of an unknown kind the kernel loads the module of that name, whether the link can be made or not
(rtnl_newlink in net/core/rtnetlink.c). Here no link is made: the loopback interface carries no other."""


def majors(shell: HostShell, drivers: Sequence[str]) -> Mapping[str, int]:
    """Return the major numbers of drivers on the engine's host, after loading missing modules.

    Args:
        shell: on the host, with ip.
        drivers: their names, which are also the kinds of their links.

    Raises:
        Unsupported: the host has no such driver.
        EngineError: the engine refused.
    """
    if not drivers:
        return {}
    found = parse(shell.run(SCRIPT, *drivers, cap_add=["NET_ADMIN"]))
    for driver in drivers:
        if driver not in found:
            raise Unsupported(
                f"the kernel of the engine's host has no driver {driver}, and its module does not load:"
                f" modprobe {driver} on that host shows the reason"
            )
    return {driver: found[driver] for driver in drivers}


def parse(output: str) -> dict[str, int]:
    """Read /proc/devices: a number and a name in each line; block devices, which come last, have other numbers."""
    characters = output.partition("Block devices:")[0]
    words = [line.split() for line in characters.splitlines()]
    return {one[1]: int(one[0]) for one in words if len(one) == 2 and one[0].isdigit()}
