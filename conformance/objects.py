"""Domains, networks and pools as what they have in common: objects that are defined, started, stopped and undefined."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import libvirt

PREFIX = "ladder-"


@dataclass(frozen=True)
class Kind:
    """One kind of libvirt object.

    Attributes:
        name: what libvirt calls it.
        create: makes a transient one that runs, from its definition.
        define: makes a persistent one, from its definition.
        lookup: finds one by its name.
        template: a definition with ``{name}``, ``{uuid}`` and ``{title}``, or what stands for a title.
    """

    name: str
    create: Callable[[str], Any]
    define: Callable[[str], Any]
    lookup: Callable[[str], Any]
    template: str

    def definition(self, name: str = "", *, identity: str = "", title: str = "first") -> str:
        """Write a definition; name and UUID are new unless given."""
        identity = identity or str(uuid.uuid4())
        return self.template.format(name=name or PREFIX + identity[:8], uuid=identity, title=title)

    def exists(self, name: str) -> bool:
        """Say whether libvirt knows one of this name."""
        with suppress(libvirt.libvirtError):
            self.lookup(name)
            return True
        return False


def kinds(connection: "libvirt.virConnect") -> dict[str, Kind]:
    """Return the kinds by name."""
    return {
        "domain": Kind(
            "domain",
            lambda xml: connection.createXML(xml, 0),
            connection.defineXML,
            connection.lookupByName,
            "<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><title>{title}</title>"
            "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>",
        ),
        "network": Kind(
            "network",
            connection.networkCreateXML,
            connection.networkDefineXML,
            connection.networkLookupByName,
            "<network><name>{name}</name><uuid>{uuid}</uuid><title>{title}</title></network>",
        ),
        "pool": Kind(
            "pool",
            lambda xml: connection.storagePoolCreateXML(xml, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD),
            lambda xml: connection.storagePoolDefineXML(xml, 0),
            connection.storagePoolLookupByName,
            "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid>"
            "<target><path>/var/lib/libvirt/images/{name}/{title}</path></target></pool>",
        ),
    }


@contextmanager
def swept(connection: "libvirt.virConnect") -> Iterator[None]:
    """Remove what was made of these definitions and is still there at the end."""
    try:
        yield
    finally:
        left = [*connection.listAllDomains(), *connection.listAllNetworks(), *connection.listAllStoragePools()]
        for one in left:
            if one.name().startswith(PREFIX):
                for end in (one.destroy, one.undefine):
                    with suppress(libvirt.libvirtError):
                        end()
