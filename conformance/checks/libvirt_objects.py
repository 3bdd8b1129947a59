"""Domains, networks and pools as libvirt objects, which can be defined, started, stopped and undefined."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import libvirt

from conformance.container.container import Container

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


def kinds(container: Container) -> dict[str, Kind]:
    """Return the kinds by name, as the libvirt in a container has them."""
    connection = container.connection
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
            # A network has no title before libvirt 9.7, and older ones drop it without an error.
            "<network><name>{name}</name><uuid>{uuid}</uuid><domain name='{title}'/></network>",
        ),
        "pool": Kind(
            "pool",
            lambda xml: connection.storagePoolCreateXML(xml, libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD),
            lambda xml: connection.storagePoolDefineXML(xml, 0),
            connection.storagePoolLookupByName,
            "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid>"
            f"<target><path>{container.mode.image.images}/{{name}}/{{title}}</path></target></pool>",
        ),
    }


KEPT = PREFIX + "kept"
VOLUME = "kept"


@dataclass(frozen=True)
class ObjectState:
    """The state of an object.

    Attributes:
        identity: its UUID.
        active: whether it runs.
        autostart: whether it starts by itself.
        holds: the volumes that a pool has.
    """

    identity: str
    active: bool
    autostart: bool
    holds: tuple[str, ...] = ()


def keep(container: Container) -> dict[str, ObjectState]:
    """Define and start one of each kind, with a volume in the pool; all but the domain start by themselves.

    Returns:
        What :func:`kept` is to find as long as they are there.
    """
    for kind in kinds(container).values():
        made = kind.define(kind.definition(KEPT))
        if kind.name == "domain":
            # Paused: an image that asks it to shut down would wait for it, since nothing in it obeys.
            made.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
            continue
        made.setAutostart(1)
        if kind.name == "pool":
            made.build()
        made.create()
        if kind.name == "pool":
            made.createXML(f"<volume><name>{VOLUME}</name><capacity unit='MiB'>1</capacity></volume>")
    return kept(container)


def kept(container: Container) -> dict[str, ObjectState]:
    """Return what is there of what :func:`keep` made, by kind."""
    found: dict[str, ObjectState] = {}
    for kind in kinds(container).values():
        if kind.exists(KEPT):
            one = kind.lookup(KEPT)
            active = bool(one.isActive())
            holds = tuple(sorted(one.listVolumes())) if kind.name == "pool" and active else ()
            found[kind.name] = ObjectState(one.UUIDString(), active, bool(one.autostart()), holds)
    return found


@contextmanager
def swept(container: Container) -> Iterator[None]:
    """Remove what was made of these definitions and is still there at the end."""
    try:
        yield
    finally:
        connection = container.connection
        left = [*connection.listAllDomains(), *connection.listAllNetworks(), *connection.listAllStoragePools()]
        for one in left:
            if one.name().startswith(PREFIX):
                for end in (_delete_volumes, type(one).destroy, type(one).undefine):
                    with suppress(libvirt.libvirtError):
                        end(one)


def _delete_volumes(one: Any) -> None:
    if isinstance(one, libvirt.virStoragePool):
        for volume in one.listAllVolumes():
            volume.delete()
