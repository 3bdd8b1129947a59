"""The guests of one container: boots are shared between the features that they can answer for."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import libvirt

from conformance import guest as guests
from conformance.beyond import Beyond
from conformance.container import Container
from conformance.errors import ImageFailure
from conformance.guest import Accel, Firmware, Guest, Shape
from conformance.media import Probe

Need = Literal["iso", "disk", "network", "macvtap"]

POOL = "conformance"
POOL_PATH = "/var/lib/libvirt/images/conformance"
"""A pool of the harness's own, so that a broken default pool is not blamed on the disk."""

NETWORK = "default"
"""The network that the documentation offers to guests."""

DISK_BYTES = 16 * 2**20

SHARED: dict[Firmware, frozenset[Need]] = {
    "bios": frozenset({"iso", "disk", "network"}),
    "efi": frozenset({"iso"}),
}
"""What one boot by each firmware is asked at once."""

STEPS: dict[Need, tuple[str, ...]] = {
    "iso": ("cdrom",),
    "disk": ("disk",),
    "network": ("link", "lease", "ping", "dns", "exchange"),
    "macvtap": ("link", "lease"),
}
"""The guest's steps that answer for a need."""

Made = Guest | Exception


class Guests:
    """Boots guests in a container, and keeps what each said.

    Args:
        container: where.
        probe: the medium.
        beyond: the server beyond the NAT.
        accel: how the guests run.
        progress: told what is being waited for.
    """

    def __init__(
        self, container: Container, probe: Probe, beyond: Beyond, accel: Accel, progress: Callable[[str], None]
    ) -> None:
        self.container = container
        self.accel: Accel = accel
        self._probe = probe
        self._beyond = beyond
        self._progress = progress
        self._made: dict[tuple[Firmware, frozenset[Need]], Made] = {}

    def boot(self, *needs: Need, firmware: Firmware = "bios") -> Guest:
        """Return a guest that was asked for these needs.

        A boot that answers for several features is made once. Where it failed, or a step of these needs did, the
        needs are asked again in a boot of their own, so that the feature at fault gets the blame.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and did not get to its end.
        """
        wanted = frozenset(needs)
        if wanted <= SHARED[firmware]:
            shared = self._once(firmware, SHARED[firmware])
            if isinstance(shared, Guest) and not _failures(shared, wanted):
                return shared
        own = self._once(firmware, wanted)
        if isinstance(own, Exception):
            # Raised once for each feature that needed this boot: without the way of the last one.
            raise own.with_traceback(None)
        return own

    def _once(self, firmware: Firmware, needs: frozenset[Need]) -> Made:
        if (firmware, needs) not in self._made:
            try:
                made: Made = self._boot(firmware, needs)
            except (libvirt.libvirtError, ImageFailure) as error:
                made = error
            self._made[firmware, needs] = made
        return self._made[firmware, needs]

    def _boot(self, firmware: Firmware, needs: frozenset[Need]) -> Guest:
        what = ", ".join(sorted(needs)) or "boot only"
        self._progress(f"{self.container.mode.id}: a guest by {firmware.upper()} under {self.accel}: {what}")
        kernel = "" if "iso" in needs else self._upload("vmlinuz", self._probe.kernel)
        shape = Shape(
            firmware=firmware,
            accel=self.accel,
            pool=POOL,
            iso=self._upload("probe.iso", self._probe.iso).rpartition("/")[2] if "iso" in needs else "",
            kernel=kernel,
            initrd=self._upload("initrd", self._probe.initrd) if kernel else "",
            disk=self._new_disk() if "disk" in needs else "",
            network=NETWORK if "network" in needs else "",
            macvtap="eth0" if "macvtap" in needs else "",
        )
        orders = {"ask": ",".join(_asks(needs))}
        if "network" in needs:
            require_started(self.container.connection.networkLookupByName(NETWORK))
            orders["peer"] = self._beyond.server
        return guests.boot(self.container, shape, orders)

    # ------------------------------------------------------------------------------------ storage

    def read_disk(self, guest: Guest, offset: int, length: int) -> bytes:
        """Read bytes of a guest's disk through libvirt."""
        volume = self._pool().storageVolLookupByName(guest.shape.disk)
        stream = self.container.connection.newStream(0)
        volume.download(stream, offset, length, 0)
        received = bytearray()
        stream.recvAll(lambda _stream, data, _opaque: received.extend(data), None)
        stream.finish()
        return bytes(received)

    def _pool(self) -> "libvirt.virStoragePool":
        connection = self.container.connection
        try:
            return connection.storagePoolLookupByName(POOL)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
        return connection.storagePoolCreateXML(
            f"<pool type='dir'><name>{POOL}</name><target><path>{POOL_PATH}</path></target></pool>",
            libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD,
        )

    def _new_disk(self) -> str:
        name = f"disk-{time.monotonic_ns()}.raw"
        self._volume(name, DISK_BYTES)
        return name

    def _volume(self, name: str, size: int) -> "libvirt.virStorageVol":
        return self._pool().createXML(
            f"<volume><name>{escape(name)}</name><capacity unit='bytes'>{size}</capacity>"
            "<target><format type='raw'/></target></volume>",
            0,
        )

    def _upload(self, name: str, source: Path) -> str:
        """Put a file into the pool once, and return its path in the container."""
        try:
            return str(self._pool().storageVolLookupByName(name).path())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
        volume = self._volume(name, source.stat().st_size)
        stream = self.container.connection.newStream(0)
        with source.open("rb") as file:
            volume.upload(stream, 0, source.stat().st_size, 0)
            stream.sendAll(lambda _stream, size, _opaque: file.read(size), None)
        stream.finish()
        return str(volume.path())


def require_started(network: "libvirt.virNetwork") -> None:
    """Raise unless a network is active.

    Raises:
        libvirt.libvirtError: it cannot be started; the daemon's own reason, which "not active" alone is not.
        ImageFailure: it can be started, and nobody has.
    """
    if not network.isActive():
        network.create()
        network.destroy()
        raise ImageFailure(f"network {network.name()} can be started, but was not")


def _asks(needs: Iterable[Need]) -> list[str]:
    """Return the guest's own words for needs."""
    words = {"iso": "cdrom", "disk": "disk", "network": "net", "macvtap": "net"}
    return sorted({words[need] for need in needs})


def _failures(guest: Guest, needs: Iterable[Need]) -> list[str]:
    return [failure for need in needs for failure in guest.report.failures(*STEPS[need])]
