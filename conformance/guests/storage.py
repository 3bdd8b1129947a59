"""The storage pool of the guests: disks, media, and the files that they boot from."""

import hashlib
import io
import time
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

import libvirt

from conformance.container.container import Container
from conformance.guests.spec import DiskFormat

POOL = "conformance"
"""A pool of the harness's own, so that a broken default pool is not blamed on the disk."""

DISK_BYTES = 16 * 2**20

MEDIUM_BYTES = 2**20


class StoragePool:
    """A pool in the container's folder of images, created at its first use."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._uploaded: set[str] = set()

    @property
    def path(self) -> str:
        """Its folder in the container."""
        return f"{self._container.mode.image.images}/{POOL}"

    def new_disk(self, disk_format: DiskFormat = "raw") -> str:
        """Create a disk of :data:`DISK_BYTES`, and return its volume's name."""
        name = f"disk-{time.monotonic_ns()}.{disk_format}"
        self._create(name, DISK_BYTES, disk_format)
        return name

    def new_sparse_disk(self, size: int) -> str:
        """Create a raw disk of so many bytes that takes no room yet, and return its volume's name."""
        name = f"disk-{time.monotonic_ns()}.raw"
        self._create(name, size, sparse=True)
        return name

    def new_medium(self, line: str) -> str:
        """Create a medium for a CD-ROM drive that begins with a line, and return its volume's name."""
        name = f"medium-{time.monotonic_ns()}.iso"
        self._create(name, MEDIUM_BYTES)
        self.write(name, f"{line}\n".encode())
        return name

    def path_of(self, volume: str) -> str:
        """Return the path of a volume in the container."""
        return str(self._lookup(volume).path())

    def allocation(self, volume: str) -> int:
        """Return how many bytes of the pool a volume takes."""
        return int(self._lookup(volume).info()[2])

    def layout(self, volume: str) -> tuple[DiskFormat, int]:
        """Return the format and the capacity in bytes that a volume's own bytes state, whatever libvirt says.

        QEMU's docs/interop/qcow2.rst: the magic number, and the size at byte 24.
        """
        header = self.read(volume, 0, 32)
        if header.startswith(b"QFI\xfb"):
            return "qcow2", int.from_bytes(header[24:32], "big")
        return "raw", int(self._lookup(volume).info()[1])

    def read(self, volume: str, offset: int, length: int) -> bytes:
        """Download bytes of a volume."""
        stream = self._container.connection.newStream(0)
        self._lookup(volume).download(stream, offset, length, 0)
        received = bytearray()
        stream.recvAll(lambda _stream, data, _opaque: received.extend(data), None)
        stream.finish()
        return bytes(received)

    def write(self, volume: str, content: bytes) -> None:
        """Upload bytes to the beginning of a volume."""
        _send(self._lookup(volume), io.BytesIO(content), len(content))

    def clone(self, volume: str) -> str:
        """Clone a volume, and return the copy's name."""
        original = self._lookup(volume)
        name = f"copy-of-{volume}"
        self._pool().createXMLFrom(_volume_xml(name, original.info()[1]), original, 0)
        return name

    def delete(self, volume: str) -> None:
        """Delete a volume, if it exists."""
        try:
            self._lookup(volume).delete()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise

    def upload(self, name: str, source: Path) -> str:
        """Upload a file once, and return its path in the container.

        An existing volume of that name is replaced unless this pool uploaded all of it: a guest that boots half a
        medium would blame the image.
        """
        if name not in self._uploaded:
            self.delete(name)
            volume = self._create(name, source.stat().st_size)
            with source.open("rb") as file:
                _send(volume, file, source.stat().st_size)
            self._uploaded.add(name)
        return self.path_of(name)

    def upload_medium(self, path: Path) -> str:
        """Upload a medium that need not be the probe's, and return its volume's name."""
        # A name of its own: a user's medium may have the same file name as one of the project's.
        name = f"medium-{hashlib.sha256(bytes(path.resolve())).hexdigest()[:16]}.iso"
        self.upload(name, path)
        return name

    def _create(
        self, name: str, size: int, disk_format: DiskFormat = "raw", *, sparse: bool = False
    ) -> "libvirt.virStorageVol":
        return self._pool().createXML(_volume_xml(name, size, disk_format, sparse=sparse), 0)

    def _lookup(self, volume: str) -> "libvirt.virStorageVol":
        return self._pool().storageVolLookupByName(volume)

    def _pool(self) -> "libvirt.virStoragePool":
        connection = self._container.connection
        try:
            return connection.storagePoolLookupByName(POOL)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
        return connection.storagePoolCreateXML(
            f"<pool type='dir'><name>{POOL}</name><target><path>{self.path}</path></target></pool>",
            libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD,
        )


def _volume_xml(name: str, size: int, disk_format: DiskFormat = "raw", *, sparse: bool = False) -> str:
    # By default libvirt takes all of a raw volume's room at once.
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
