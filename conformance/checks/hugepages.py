"""The host's huge pages, as a container sees them."""

from conformance.container.container import Container
from conformance.errors import Unsupported

FOLDER = "/dev/hugepages"
"""Where a host with systemd has its huge pages (dev-hugepages.mount)."""

STATE = f"""
grep '^Huge' /proc/meminfo
grep -q ' {FOLDER} hugetlbfs ' /proc/mounts && echo 'Mounted: 1'
true
"""


def require(container: Container, mib: int) -> None:
    """Raise unless the host has so much memory left in huge pages, where the mode exposes them.

    Where it does not, they do not matter: libvirt refuses before it looks.

    Args:
        container: in the mode.
        mib: how much memory, in MiB.

    Raises:
        Unsupported: the host has no folder of huge pages, or too few of them; says how to get some.
    """
    if not any(mount.target in (FOLDER, "/dev") for mount in container.mode.mounts):
        return
    fields = dict(line.partition(":")[::2] for line in container.run("sh", "-c", STATE).text.splitlines())
    if "Mounted" not in fields:
        raise Unsupported(
            f"the engine's host has no hugetlbfs at {FOLDER}; run on that host: mount -t hugetlbfs none {FOLDER}"
        )
    size, free = (int(fields[name].split()[0]) for name in ("Hugepagesize", "HugePages_Free"))
    wanted = -(-mib * 1024 // size)
    if free < wanted:
        raise Unsupported(
            f"the engine's host has {free} free huge pages of {size} KiB, but the guest needs {wanted};"
            f" run on that host: sysctl vm.nr_hugepages={wanted}"
        )
