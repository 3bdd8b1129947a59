"""The numbers that drivers of character devices have on the engine's host; they may be others after each boot."""

from collections.abc import Mapping, Sequence

import docker

from conformance.engine import one_shot
from conformance.engine.api_errors import engine_errors
from conformance.errors import Unsupported

SCRIPT = """
for driver in "$@"; do ip link add link lo name module type "$driver" 2>/dev/null; done
cat /proc/devices
"""
"""Asked for a link of a kind that it does not know, the kernel loads that module, whatever becomes of the link
(rtnl_newlink in net/core/rtnetlink.c): here nothing, since the loopback interface carries no other."""


def majors(client: docker.DockerClient, image: str, run: str, drivers: Sequence[str]) -> Mapping[str, int]:
    """Return the numbers of drivers on the engine's host, which loads the modules that it lacks.

    Args:
        client: the engine.
        image: an image with ip and sh: the image under test has them.
        run: the run's id, for the label.
        drivers: their names, which are those of the kinds of links that they make.

    Raises:
        Unsupported: the host has no such driver.
        EngineError: the engine refused.
    """
    if not drivers:
        return {}
    with engine_errors():
        command = ["sh", "-c", SCRIPT, "sh", *drivers]
        output = one_shot.output(client, image, command, run=run, network_mode="none", cap_add=["NET_ADMIN"])
    found = parse(output)
    for driver in drivers:
        if driver not in found:
            raise Unsupported(f"the engine's host has no {driver}, and loads none: modprobe {driver} there says why")
    return {driver: found[driver] for driver in drivers}


def parse(output: str) -> dict[str, int]:
    """Read /proc/devices: a number and a name in each line; block devices, which come last, have other numbers."""
    characters = output.partition("Block devices:")[0]
    words = [line.split() for line in characters.splitlines()]
    return {one[1]: int(one[0]) for one in words if len(one) == 2 and one[0].isdigit()}
