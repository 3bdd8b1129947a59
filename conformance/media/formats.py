"""The containers that boot media are made of, written so that the same content gives the same bytes.

Every time stamp is :data:`EPOCH`, every owner is root, every entry has its place; nothing is taken from the
machine or the moment.
"""

import io
import struct
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import pycdlib
import pycdlib.dates
import pycdlib.headervd
import pycdlib.pycdlib
import pycdlib.utils

EPOCH = 1767225600
"""The time stamp of everything that is built: 2026-01-01 00:00 UTC, in seconds."""


class Tree:
    """Folders, executables, files and symbolic links by path; parents come by themselves.

    Args:
        files: content by path, without a leading slash.
        executables: the same, for executable files.
        links: target by path.
        folders: folders that would otherwise be missing since nothing is in them.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        executables: Mapping[str, bytes] | None = None,
        links: Mapping[str, str] | None = None,
        folders: tuple[str, ...] = (),
    ) -> None:
        leaves: dict[str, tuple[int, bytes]] = dict.fromkeys(folders, (0o040755, b""))
        leaves |= {path: (0o100644, content) for path, content in (files or {}).items()}
        leaves |= {path: (0o100755, content) for path, content in (executables or {}).items()}
        leaves |= {path: (0o120777, target.encode()) for path, target in (links or {}).items()}
        for path in list(leaves):
            while "/" in path:
                path = path.rpartition("/")[0]
                leaves.setdefault(path, (0o040755, b""))
        self.entries = [(path, *leaves[path]) for path in sorted(leaves)]
        """Path, Unix mode with its type bits, and content or link target; parents before children."""


def cpio(tree: Tree) -> bytes:
    """Return an initramfs: an archive in the "newc" format.

    Not compressed: measured, that boots as fast under emulation, and the bytes depend on no zlib.

    Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    out = bytearray()

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def entry(inode: int, path: str, mode: int, content: bytes) -> None:
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, EPOCH, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        out.extend(padded(header + name) + padded(content))

    for inode, (path, mode, content) in enumerate(tree.entries, start=1):
        entry(inode, path, mode, content)
    entry(0, "TRAILER!!!", 0, b"")
    return bytes(out)


def tar(tree: Tree) -> bytes:
    """Return a root file system as a container engine imports it."""
    out = io.BytesIO()
    kinds = {0o040000: tarfile.DIRTYPE, 0o100000: tarfile.REGTYPE, 0o120000: tarfile.SYMTYPE}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode, content in tree.entries:
            info = tarfile.TarInfo(path)
            info.mode, info.mtime, info.type = mode & 0o7777, EPOCH, kinds[mode & 0o170000]
            if info.issym():
                info.linkname = content.decode()
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


SECTOR = 512
CLUSTER = 2048
FAT_SECTORS = 12  # 12 bits for each of the 4084 clusters that FAT12 can have
ROOT_ENTRIES = 16


def efi_image(loaders: Mapping[str, bytes]) -> bytes:
    """Return a FAT12 image that holds ``loaders`` in EFI/BOOT, where UEFI looks on removable media.

    Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification 1.03; UEFI 2.10, 3.5.1.1.

    Args:
        loaders: EFI applications by name, such as BOOTX64.EFI; 8.3 names, together less than 8 MB.
    """
    year, month, day = time.gmtime(EPOCH)[:3]
    date = (year - 1980) << 9 | month << 5 | day

    def record(name: bytes, kind: int, cluster: int, size: int = 0) -> bytes:
        # Name, attributes, …, creation time and date, access date, …, change time and date, first cluster, size
        return struct.pack("<11sBBBHHHHHHHI", name, kind, 0, 0, 0, date, date, 0, 0, date, cluster, size)

    folder, archive, end = 0x10, 0x20, 0xFFF
    root = record(b"EFI        ", folder, 2)
    efi = record(b".          ", folder, 2) + record(b"..         ", folder, 0) + record(b"BOOT       ", folder, 3)
    boot = record(b".          ", folder, 3) + record(b"..         ", folder, 2)
    chain = [0xFF8, end, end, end]  # clusters 2 and 3 are the two folders
    content = b""
    for name, loader in loaders.items():
        stem, _, extension = name.encode().partition(b".")
        boot += record(stem.ljust(8) + extension.ljust(3), archive, len(chain), len(loader))
        length = -(-len(loader) // CLUSTER)
        chain += [len(chain) + n + 1 for n in range(length - 1)] + [end]
        content += loader.ljust(length * CLUSTER, b"\0")
    clusters = len(chain) - 2
    if clusters > 4084:
        raise ValueError(f"{len(content)} bytes do not fit into FAT12 with clusters of {CLUSTER} bytes")
    chain += [0] * (len(chain) % 2)
    fat = b"".join((a | b << 12).to_bytes(3, "little") for a, b in zip(chain[::2], chain[1::2], strict=True))

    sectors = 1 + FAT_SECTORS + ROOT_ENTRIES * 32 // SECTOR + clusters * CLUSTER // SECTOR
    header = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s",
        b"\xeb\x3c\x90", b"PROBE   ", SECTOR, CLUSTER // SECTOR, 1, 1, ROOT_ENTRIES, sectors, 0xF8, FAT_SECTORS,
        32, 2, 0, 0, 0x80, 0, 0x29, EPOCH, b"PROBE      ", b"FAT12   ",
    )  # fmt: skip
    return b"".join(
        (
            header.ljust(SECTOR - 2, b"\0") + b"\x55\xaa",
            fat.ljust(FAT_SECTORS * SECTOR, b"\0"),
            root.ljust(ROOT_ENTRIES * 32, b"\0"),
            efi.ljust(CLUSTER, b"\0"),
            boot.ljust(CLUSTER, b"\0"),
            content,
        )
    )


@contextmanager
def _still_clock() -> Iterator[None]:
    """Freeze pycdlib's clock, in UTC: it stamps its output with the present, and has no option for that."""
    clock = SimpleNamespace(
        time=lambda: float(EPOCH), gmtime=time.gmtime, localtime=time.gmtime, strftime=time.strftime
    )
    with ExitStack() as stack:
        for module in (pycdlib.dates, pycdlib.headervd, pycdlib.pycdlib, pycdlib.utils):
            stack.enter_context(patch.object(module, "time", clock))
        yield


def iso(volume: str, files: Mapping[str, bytes], *, bios: str, efi: str) -> bytes:
    """Return an ISO 9660 image with Rock Ridge names that boots by BIOS and by UEFI (El Torito).

    Args:
        volume: volume identifier, at most 32 of A to Z, 0 to 9 and _.
        files: content by path; a folder or name is at most 8.3 characters, or no loader can find it.
        bios: path of the BIOS loader (isolinux.bin, which gets the boot information table it expects).
        efi: path of the FAT image that the UEFI firmware mounts.
    """

    def plain(path: str, version: str = "") -> str:
        """The ISO 9660 name: a leading dot is not allowed there."""
        return "/" + path.upper().replace("/.", "/").removeprefix(".") + version

    out = io.BytesIO()
    with _still_clock():
        image = pycdlib.PyCdlib()
        image.new(interchange_level=3, vol_ident=volume, rock_ridge="1.09")
        for path, mode, content in Tree(files).entries:
            name = path.rpartition("/")[2]
            if mode & 0o040000:
                image.add_directory(plain(path), rr_name=name)
            else:
                file_path = plain(path, ";1" if "." in name else ".;1")
                image.add_fp(io.BytesIO(content), len(content), file_path, rr_name=name)
        # isolinux.bin asks for 4 sectors of 512 bytes and a table of where it lies (isolinux.txt of syslinux).
        image.add_eltorito(plain(bios, ";1"), "/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
        image.add_eltorito(plain(efi, ";1"), platform_id=0xEF, efi=True)
        image.write_fp(out)
        image.close()
    return out.getvalue()


def data_iso(volume: str, files: Mapping[str, bytes]) -> bytes:
    """Return an ISO 9660 image with Joliet names, which boots nothing.

    Args:
        volume: volume identifier, at most 16 of A to Z, 0 to 9 and _.
        files: content by name; all are in the root.
    """
    out = io.BytesIO()
    with _still_clock():
        image = pycdlib.PyCdlib()
        image.new(interchange_level=3, vol_ident=volume, joliet=3)
        for name, content in sorted(files.items()):
            image.add_fp(io.BytesIO(content), len(content), f"/{name.upper()};1", joliet_path=f"/{name}")
        image.write_fp(out)
        image.close()
    return out.getvalue()
