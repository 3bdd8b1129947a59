"""libvirt's files with process IDs in a container."""

from conformance.container.container import Container

STALE = """
for file in /run/libvirt/qemu/*.pid; do
    [ ! -e "$file" ] || grep -q "^qemu\\|^libvirtd\\|^virt" "/proc/$(cat "$file")/comm" || echo "$file"
done
"""


def stale(container: Container) -> list[str]:
    """Return the files that name no process of QEMU or libvirt."""
    return container.run("sh", "-c", STALE).text.split()
