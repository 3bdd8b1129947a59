"""Leftovers of macvtap in a container: links, and the device nodes that open them."""

import contextlib

from conformance.container.container import Container
from conformance.util.wait import DeadlineExpired, wait_for

SECONDS = 10
"""For the image to see that a link has gone: the kernel tells it, and it takes the node away."""


def traces(container: Container) -> frozenset[str]:
    """Return the paths of the nodes and, as /sys has them, of the links."""
    return frozenset(container.run("sh", "-c", "ls -d /dev/tap[0-9]* /sys/class/macvtap/tap* 2>/dev/null").text.split())


def node(container: Container, before: frozenset[str]) -> str:
    """Return the path of the node that is new since ``before``; empty where there is none."""
    return next((path for path in traces(container) - before if path.startswith("/dev/")), "")


def left(container: Container, before: frozenset[str]) -> frozenset[str]:
    """Return what is still there, at the latest :data:`SECONDS` after its guest has gone, and was not there before."""
    there: frozenset[str] = frozenset()

    def gone() -> bool:
        nonlocal there
        there = traces(container) - before
        return not there

    with contextlib.suppress(DeadlineExpired):
        wait_for("links and nodes of macvtap to go", gone, seconds=SECONDS)
    return there


def owner(container: Container, path: str) -> str:
    """Return who owns a node, at the latest :data:`SECONDS` after it was made; it is root's until it is given away."""
    name = ""

    def given() -> bool:
        nonlocal name
        name = container.run("stat", "--format=%U", path).text.strip()
        return name != "root"

    with contextlib.suppress(DeadlineExpired):
        wait_for(f"{path} to be given away", given, seconds=SECONDS)
    return name
