"""The guests of one container: boots are shared between the features that they can answer for."""

import contextlib
import dataclasses
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal
from xml.sax.saxutils import escape

import libvirt

from conformance.container.container import Container
from conformance.errors import HarnessError, ImageFailure
from conformance.guests import guest as guests
from conformance.guests.guest import (
    Accel,
    AutostartGuest,
    Direct,
    DiskFormat,
    Firmware,
    Guest,
    GuestSpec,
    PersistentGuest,
    RunningGuest,
    Tuning,
)
from conformance.guests.install_watch import STALL_SECONDS, Watch
from conformance.guests.peer_network import PeerNetwork
from conformance.host.pci import Device
from conformance.media.probe import Probe

Need = Literal["iso", "disk", "network", "macvtap", "tpm"]
"""What a boot can be asked for."""

Part = Literal["disk", "snapshots", "network", "drive"]
"""What a guest that stays can have: ``snapshots`` is a disk that can keep them, ``drive`` an empty CD-ROM drive."""

POOL = "conformance"
"""A pool of the harness's own, so that a broken default pool is not blamed on the disk."""

NETWORK = "default"
"""The network that the documentation offers to guests."""

DISK_BYTES = 16 * 2**20

MEDIUM_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Installation:
    """What is installed, and what it is given; by default what a small Linux needs.

    Attributes:
        medium: which is booted.
        more: further media.
        orders: what the guest is told.
        disk_bytes: of the disk; only what is written takes room.
        memory_mib: in MiB.
        cpus: how many processors.
        tpm: whether there is a TPM.
    """

    medium: Path
    orders: Mapping[str, str] = dataclasses.field(default_factory=dict)
    more: tuple[Path, ...] = ()
    disk_bytes: int = 4 * 2**30
    memory_mib: int = 1024
    cpus: int = 1
    tpm: bool = False


RESIDENTS: tuple[frozenset[Part], ...] = (
    frozenset({"disk", "network", "drive"}),
    frozenset({"snapshots", "network"}),
)
"""What the guests that stay have; libvirt takes no snapshot with memory while one disk's format cannot hold it."""

STAY_SECONDS = 600
"""So long a guest that stays waits for its next order before it ends by itself."""

Asked = tuple[Firmware, frozenset[Need]]
"""By which firmware a boot is made, and what it is asked."""

Sharing = Mapping[Firmware, Sequence[Asked]]
"""By the firmware that is wanted: the boots that may answer, the first that is asked for enough."""

SHARED: Sharing = {
    "bios": [("bios", frozenset({"iso", "disk", "network"}))],
    "efi": [("efi", frozenset({"iso", "tpm"}))],
    "secure-boot": [("secure-boot", frozenset({"iso"}))],
}

_ALL: Sequence[Asked] = [
    ("secure-boot", frozenset({"iso", "disk", "tpm", "network"})),
    ("secure-boot", frozenset({"iso", "disk", "tpm"})),
]
ONE_FOR_ALL: Sharing = {"bios": _ALL, "efi": _ALL, "secure-boot": _ALL}
"""Where boots are counted: Secure Boot is UEFI, and whoever asks for no firmware is answered by any."""

STEPS: dict[Need, tuple[str, ...]] = {
    "iso": ("cdrom",),
    "disk": ("disk",),
    "network": ("link", "lease", "ping", "dns", "exchange"),
    "macvtap": ("link", "lease", "exchange"),
    "tpm": ("tpm",),
}
"""The guest's steps that answer for a need."""

TUNED_MIB = 256
"""Memory of a guest that is bound to parts of its host: so much of it is locked, or taken from the huge pages."""

TUNED_PROCESSORS = 2

PASSED_DISK = "sda"
"""What a guest calls the disk of a controller that it was given, where it has no other."""

ON_MACVTAP: frozenset[Need] = frozenset({"macvtap"})

Made = Guest | Exception


class Guests:
    """Boots guests in a container, and keeps what each said.

    Args:
        container: where.
        probe: the medium.
        beyond: the server beyond the NAT.
        accel: how the guests run.
        progress: told what is being waited for.
        shared: which boots answer for several needs.
        unbootable_reason: why nobody can wait for a guest here; empty if one can.
    """

    def __init__(
        self,
        container: Container,
        probe: Probe,
        peer_network: PeerNetwork,
        accel: Accel,
        progress: Callable[[str], None],
        *,
        shared: Sharing = SHARED,
        unbootable_reason: str = "",
    ) -> None:
        self.container = container
        self.accel: Accel = accel
        self._probe = probe
        self._beyond = peer_network
        self._progress = progress
        self._shared = shared
        self._unbootable_reason = unbootable_reason
        self._made: dict[tuple[Firmware, frozenset[Need]], Made] = {}
        self._residents: dict[frozenset[Part], RunningGuest] = {}
        self._not_settled: set[frozenset[Part]] = set()
        self._uploaded: set[str] = set()
        self._closing = contextlib.ExitStack()

    @property
    def _pool_path(self) -> str:
        return f"{self.container.mode.image.images}/{POOL}"

    def boot(self, *needs: Need, firmware: Firmware = "bios") -> Guest:
        """Return a guest that was asked for these needs.

        A boot that answers for several features is made once. Where it failed, or a step of these needs did, the
        needs are asked again in a boot of their own, so that the feature at fault gets the blame.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and did not get to its end.
        """
        wanted = frozenset(needs)
        for by, asked in self._shared[firmware]:
            if wanted <= asked:
                shared = self._once(by, asked)
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
                made: Made = self.boot_anew(*needs, firmware=firmware)
            except (libvirt.libvirtError, ImageFailure) as error:
                made = error
            self._made[firmware, needs] = made
        return self._made[firmware, needs]

    def boot_anew(self, *needs: Need, firmware: Firmware, seconds: float = guests.BOOT_SECONDS) -> Guest:
        """Boot a guest that is asked for these needs alone, whatever was booted before; raises as :meth:`boot`."""
        wanted = frozenset(needs)
        what = ", ".join(sorted(wanted)) or "boot only"
        self._progress(f"{self.container.mode.id}: a guest by {firmware.upper()} under {self.accel}: {what}")
        return guests.boot(self.container, self._shape(firmware, wanted), self._orders(wanted), seconds)

    @contextlib.contextmanager
    def stay(self, *needs: Part) -> Iterator[RunningGuest]:
        """Start a guest that stays to be asked, for as long as this lasts; one with a network has its lease.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got so far as to take orders.
        """
        wanted = frozenset(needs)
        self._progress(f"{self.container.mode.id}: a guest that stays: {', '.join(sorted(wanted)) or 'boot only'}")
        # It obeys the power button: a container that is told to stop need not wait for it.
        network: frozenset[Need] = frozenset({"network"} if "network" in wanted else ())
        orders = self._orders(network, "button") | {"stay": str(STAY_SECONDS)}
        shape = dataclasses.replace(self._shape("bios", wanted), adjustable=True)
        with guests.started(self.container, shape, orders, outlives=True) as running:
            running.wait_for_event("ready")
            yield running

    def running(self, *needs: Part, beside: RunningGuest | None = None) -> RunningGuest:
        """Return a guest that stays and has what is needed; one serves all who ask, until somebody ends it.

        Args:
            needs: what it has to have, and may have more of.
            beside: a guest that it must not be.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got so far as to take orders.
        """
        wanted = frozenset(needs)
        there = {have: guest for have, guest in self._residents.items() if guest.alive and not guest.unresponsive}
        # The one that has least beside what is needed: the others stay for those who need more.
        for have in sorted(there, key=len):
            if wanted <= have and there[have] is not beside:
                return there[have]
        for have in RESIDENTS:
            if wanted < have and have not in there and have not in self._not_settled:
                try:
                    return self._settle(have)
                except (libvirt.libvirtError, ImageFailure):
                    # As with a shared boot: what is needed is asked for alone, so that the one at fault gets the blame.
                    self._not_settled.add(have)
        return self._settle(wanted)

    def _settle(self, needs: frozenset[Part]) -> RunningGuest:
        self._residents[needs] = self._closing.enter_context(self.stay(*needs))
        return self._residents[needs]

    @contextlib.contextmanager
    def autostarted(self, *, now: bool = True) -> Iterator[AutostartGuest]:
        """Define a guest that starts with the container, for as long as this lasts.

        Args:
            now: start it by hand this once, and wait until it is up.

        Raises:
            libvirt.libvirtError: the daemon refuses.
            GuestFailure: it does not come up.
        """
        self._progress(f"{self.container.mode.id}: a guest that starts by itself")
        self.container.revive()
        log = f"{self.container.mode.image.logs}/autostarted-{time.monotonic_ns()}.console"
        shape = dataclasses.replace(self._shape("bios", frozenset()), console_log=log)
        guest = AutostartGuest(self.container, shape, {"ask": "kept,button", "stay": str(STAY_SECONDS)})
        try:
            if now:
                guest.start()
                guest.wait_until_up()
            yield guest
        finally:
            guest.remove()

    def close(self) -> None:
        """End the guests that stay."""
        self._closing.close()

    @contextlib.contextmanager
    def defined(self, *, firmware: Firmware, variable: str) -> Iterator[PersistentGuest]:
        """Define a persistent domain for as long as this lasts, which is asked for a UEFI variable in each boot.

        Raises:
            libvirt.libvirtError: the daemon does not take the definition.
        """
        nvram = f"{self._pool_path}/{variable}_VARS.fd"
        shape = dataclasses.replace(self._shape(firmware, frozenset()), nvram=nvram)
        self._progress(f"{self.container.mode.id}: a persistent guest by {firmware.upper()}, started twice")
        with self._defined(shape, {"ask": "nvram", "variable": variable}) as domain:
            yield domain

    @contextlib.contextmanager
    def neighbours(self, mode: Direct) -> Iterator[tuple[RunningGuest, RunningGuest]]:
        """Start two guests on macvtap interfaces of one mode that stay, for as long as this lasts.

        Raises:
            libvirt.libvirtError: a domain did not start.
            GuestFailure: one started, and never got so far as to take orders.
        """
        self._progress(f"{self.container.mode.id}: two guests on macvtap interfaces in mode {mode}")
        shape = dataclasses.replace(self._shape("bios", ON_MACVTAP), macvtap_mode=mode)
        orders = {"ask": "link,lease", "stay": str(STAY_SECONDS)}
        with (
            guests.started(self.container, shape, orders) as one,
            guests.started(self.container, shape, orders) as other,
        ):
            for guest in (one, other):
                guest.wait_for_event("ready")
            yield one, other

    @contextlib.contextmanager
    def on_link(self, link: str) -> Iterator[RunningGuest]:
        """Start a guest on a macvtap interface over a link of the host that stays, for as long as this lasts.

        Raises:
            HarnessError: there is no such link.
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got so far as to take orders.
        """
        self._progress(f"{self.container.mode.id}: a guest on {link}")
        if self.container.run("test", "-e", f"/sys/class/net/{link}").status:
            raise HarnessError(f"the engine's host has no link {link}", "name another with --macvtap-link")
        shape = dataclasses.replace(self._shape("bios", ON_MACVTAP), macvtap=link)
        with guests.started(self.container, shape, {"ask": "link,lease", "stay": str(STAY_SECONDS)}) as guest:
            guest.wait_for_event("ready")
            yield guest

    @contextlib.contextmanager
    def pci_guest(self, device: Device) -> Iterator[RunningGuest]:
        """Start a guest with a PCI device of the host that stays, for as long as this lasts.

        It has a lease over a network card, and has written to the disk of a controller.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got so far as to take orders.
        """
        self._progress(f"{self.container.mode.id}: a guest that drives {device.address}, of the host's {device.driver}")
        shape = dataclasses.replace(
            self._shape("bios", frozenset()), hostdev=device.address, managed=not self.container.mode.vfio
        )
        orders = {"ask": "link,lease"} if device.kind == "card" else {"ask": "disk", "device": PASSED_DISK}
        with guests.started(self.container, shape, orders | {"stay": str(STAY_SECONDS)}) as guest:
            guest.wait_for_event("ready")
            yield guest

    @contextlib.contextmanager
    def tuned(self, tuning: Tuning) -> Iterator[RunningGuest]:
        """Start a guest that is bound to parts of its host and stays, for as long as this lasts.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got so far as to take orders.
        """
        self._progress(f"{self.container.mode.id}: a guest that is bound to parts of its host")
        shape = dataclasses.replace(
            self._shape("bios", frozenset()), tuning=tuning, memory_mib=TUNED_MIB, cpus=TUNED_PROCESSORS
        )
        with guests.started(self.container, shape, {"stay": str(STAY_SECONDS)}) as guest:
            guest.wait_for_event("ready")
            yield guest

    @contextlib.contextmanager
    def defined_on_macvtap(self) -> Iterator[PersistentGuest]:
        """Define a persistent domain on a macvtap interface, for as long as this lasts.

        Raises:
            libvirt.libvirtError: the daemon does not take the definition.
        """
        self._progress(f"{self.container.mode.id}: a persistent guest on a macvtap interface")
        with self._defined(self._shape("bios", ON_MACVTAP), self._orders(ON_MACVTAP)) as domain:
            yield domain

    @contextlib.contextmanager
    def _defined(self, shape: GuestSpec, orders: dict[str, str]) -> Iterator[PersistentGuest]:
        domain = PersistentGuest(self.container, shape, orders)
        try:
            yield domain
        finally:
            domain.undefine()

    @contextlib.contextmanager
    def medium(self, path: Path, *, firmware: Firmware, memory_mib: int = guests.MEMORY_MIB) -> Iterator[RunningGuest]:
        """Start a guest with a screen from a medium that need not be the probe's, for as long as this lasts.

        Raises:
            libvirt.libvirtError: the domain did not start.
        """
        self._progress(f"{self.container.mode.id}: {path.name} by {firmware.upper()} under {self.accel}")
        name = self._upload_given(path)
        shape = GuestSpec(
            firmware, self.accel, POOL, iso=name, firmware_on_serial=True, screen=True, memory_mib=memory_mib
        )
        with guests.started(self.container, shape, {}) as running:
            yield running

    @contextlib.contextmanager
    def installing(self, what: Installation, *, firmware: Firmware) -> Iterator[Watch]:
        """Start an installation from a medium onto an empty disk, with a network, for as long as this lasts.

        Args:
            what: is installed.
            firmware: how the medium is booted.

        Raises:
            libvirt.libvirtError: the domain did not start, or the network is not.
        """
        require_started(self.container.connection.networkLookupByName(NETWORK))
        name = f"disk-{time.monotonic_ns()}.raw"
        volume = self._volume(name, what.disk_bytes, sparse=True)
        shape = GuestSpec(
            firmware,
            self.accel,
            POOL,
            iso=self._upload_given(what.medium),
            more_isos=tuple(self._upload_given(path) for path in what.more),
            disk=name,
            network=NETWORK,
            firmware_on_serial=True,
            screen=True,
            memory_mib=what.memory_mib,
            cpus=what.cpus,
            tpm=what.tpm,
            installs=True,
        )
        try:
            with guests.started(self.container, shape, {"peer": self._beyond.server, **what.orders}) as running:
                where = f"{self.container.mode.id}, {firmware.upper()}"
                yield Watch(running, self._progress, where, stall_seconds=STALL_SECONDS[self.accel])
        finally:
            # Gigabytes, which nobody asks for any more.
            with contextlib.suppress(libvirt.libvirtError):
                volume.delete()

    def _upload_given(self, path: Path) -> str:
        """Put a medium that need not be the probe's into the pool, and return its volume's name."""
        # Of a name of its own: a user's medium may be called as one of ours is.
        name = f"medium-{hashlib.sha256(bytes(path.resolve())).hexdigest()[:16]}.iso"
        self._upload(name, path)
        return name

    def _shape(self, firmware: Firmware, needs: frozenset[Need] | frozenset[Part]) -> GuestSpec:
        disk_format: DiskFormat = "qcow2" if "snapshots" in needs else "raw"
        kernel = "" if "iso" in needs else self._upload("vmlinuz", self._probe.kernel)
        return GuestSpec(
            firmware=firmware,
            accel=self.accel,
            pool=POOL,
            iso=self._medium(firmware) if "iso" in needs else "",
            kernel=kernel,
            initrd=self._upload("initrd", self._probe.initrd) if kernel else "",
            disk=self.new_disk(disk_format) if needs & {"disk", "snapshots"} else "",
            disk_format=disk_format,
            drive="drive" in needs,
            network=NETWORK if "network" in needs else "",
            macvtap=self._beyond.link(self.container.mode) if "macvtap" in needs else "",
            tpm="tpm" in needs,
            unbootable_reason=self._unbootable_reason,
        )

    def _medium(self, firmware: Firmware) -> str:
        """Put the probe's medium that this firmware boots into the pool, and return its volume's name."""
        medium = self._probe.signed_iso if firmware == "secure-boot" else self._probe.iso
        return self._upload(medium.name, medium).rpartition("/")[2]

    def _orders(self, needs: frozenset[Need], *more: str) -> dict[str, str]:
        orders = {"ask": ",".join([*_asks(needs), *more])}
        if "network" in needs:
            require_started(self.container.connection.networkLookupByName(NETWORK))
        if needs & {"network", "macvtap"}:
            orders["peer"] = self._beyond.server
        return orders

    # ------------------------------------------------------------------------------------ storage

    def read_disk(self, guest: Guest, offset: int, length: int) -> bytes:
        """Read bytes of a guest's disk through libvirt."""
        return self.read(guest.shape.disk, offset, length)

    def read(self, volume: str, offset: int, length: int) -> bytes:
        """Download bytes of a volume."""
        stream = self.container.connection.newStream(0)
        self._pool().storageVolLookupByName(volume).download(stream, offset, length, 0)
        received = bytearray()
        stream.recvAll(lambda _stream, data, _opaque: received.extend(data), None)
        stream.finish()
        return bytes(received)

    def write(self, volume: str, content: bytes) -> None:
        """Upload bytes to the beginning of a volume."""
        _send(self._pool().storageVolLookupByName(volume), io.BytesIO(content), len(content))

    def clone(self, volume: str) -> str:
        """Clone a volume, and return the copy's name."""
        original = self._pool().storageVolLookupByName(volume)
        name = f"copy-of-{volume}"
        self._pool().createXMLFrom(_volume_xml(name, original.info()[1]), original, 0)
        return name

    def allocation(self, guest: Guest) -> int:
        """Return how many bytes of the pool a guest's disk takes."""
        return int(self._pool().storageVolLookupByName(guest.shape.disk).info()[2])

    def _pool(self) -> "libvirt.virStoragePool":
        connection = self.container.connection
        try:
            return connection.storagePoolLookupByName(POOL)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
        return connection.storagePoolCreateXML(
            f"<pool type='dir'><name>{POOL}</name><target><path>{self._pool_path}</path></target></pool>",
            libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD,
        )

    def new_disk(self, disk_format: DiskFormat = "raw") -> str:
        """Make a disk of :data:`DISK_BYTES`, and return its volume's name in the pool."""
        name = f"disk-{time.monotonic_ns()}.{disk_format}"
        self._volume(name, DISK_BYTES, disk_format)
        return name

    def room(self, size: int) -> str:
        """Make an empty volume for so many bytes that takes no room yet, and return its path in the container."""
        return str(self._volume(f"room-{time.monotonic_ns()}.raw", size, sparse=True).path())

    def new_medium(self, line: str) -> str:
        """Make a medium for a CD-ROM drive that begins with a line, and return its volume's name in the pool."""
        name = f"medium-{time.monotonic_ns()}.iso"
        self._volume(name, MEDIUM_BYTES)
        self.write(name, f"{line}\n".encode())
        return name

    def _volume(
        self, name: str, size: int, disk_format: DiskFormat = "raw", *, sparse: bool = False
    ) -> "libvirt.virStorageVol":
        return self._pool().createXML(_volume_xml(name, size, disk_format, sparse=sparse), 0)

    def _upload(self, name: str, source: Path) -> str:
        """Put a file into the pool once, and return its path in the container.

        A volume of that name counts only once it was uploaded whole: a guest that boots half a medium blames the image.
        """
        if name not in self._uploaded:
            self._delete(name)
            volume = self._volume(name, source.stat().st_size)
            with source.open("rb") as file:
                _send(volume, file, source.stat().st_size)
            self._uploaded.add(name)
        return str(self._pool().storageVolLookupByName(name).path())

    def _delete(self, name: str) -> None:
        """Delete a volume of the pool, if there is one."""
        try:
            self._pool().storageVolLookupByName(name).delete()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise


def _volume_xml(name: str, size: int, disk_format: DiskFormat = "raw", *, sparse: bool = False) -> str:
    # Unless told, libvirt takes all of a raw volume's room at once.
    allocation = "<allocation>0</allocation>" if sparse else ""
    return (
        f"<volume><name>{escape(name)}</name>{allocation}<capacity unit='bytes'>{size}</capacity>"
        f"<target><format type='{disk_format}'/></target></volume>"
    )


def _send(volume: "libvirt.virStorageVol", source: BinaryIO, length: int) -> None:
    stream = volume.connect().newStream(0)
    volume.upload(stream, 0, length, 0)
    stream.sendAll(lambda _stream, size, _opaque: source.read(size), None)
    stream.finish()


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
    words = {"iso": "cdrom", "disk": "disk", "network": "net", "macvtap": "link,lease,exchange", "tpm": "tpm"}
    return sorted({words[need] for need in needs})


def _failures(guest: Guest, needs: Iterable[Need]) -> list[str]:
    return [failure for need in needs for failure in guest.report.failures(*STEPS[need])]
