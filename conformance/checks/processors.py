"""The host's processors, and which of them the threads of a guest's QEMU may run on."""

import re
from collections.abc import Mapping

from conformance.container.container import Container
from conformance.errors import Unsupported

GUESTS = re.compile(r"CPU (\d+)/")
"""How QEMU names the thread of one of its guest's processors (``-name debug-threads=on``)."""


def usable(container: Container) -> list[int]:
    """Return the numbers of the host's processors that a container may use, in their order.

    Raises:
        Unsupported: there is only one, from which no thread could be kept away.
    """
    status = container.run("grep", "^Cpus_allowed_list:", "/proc/1/status").text
    found = parse(status.partition(":")[2])
    if len(found) < 2:
        raise Unsupported(f"the container may use only processor {found} of its host: pinning would change nothing")
    return found


def parse(text: str) -> list[int]:
    """Read a list of processors as Linux writes it, such as ``0-2,5`` (cpuset(7), "List format")."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def of_guest(threads: Mapping[str, str]) -> list[str]:
    """Return where the threads of a guest's processors may run, in the processors' order.

    Args:
        threads: by the names of QEMU's threads, where they may run.
    """
    numbered = {int(match[1]): allowed for name, allowed in threads.items() if (match := GUESTS.match(name))}
    return [numbered[number] for number in sorted(numbered)]


def of_emulator(threads: Mapping[str, str]) -> set[str]:
    """Return where QEMU's other threads may run."""
    return {allowed for name, allowed in threads.items() if not GUESTS.match(name)}
