"""The stand-in for a Windows medium, for tests: see fixtures/isos/standin/README.md.

It is a Linux that does what Windows Setup does with the answer medium. What is installed from it is no Windows, and
nothing that it reports says anything about one.
"""

import struct
from collections.abc import Callable
from pathlib import Path

from conformance.media import download, formats, packages, recipe, store
from conformance.util import apt, paths

RECIPE = paths.ISOS / "standin"

VOLUME = "STANDIN"
"""The medium's ISO 9660 volume identifier, by which it is refused where a Windows medium is wanted."""

OWN = ("init", "setup", "installed", "common", "unattend.awk")
"""What goes into the initramfs, beside functions of the probe's."""

LOADERS = ("isolinux.cfg", "grub.cfg", "disk/isolinux.cfg", "disk/grub.cfg")

PROBES = ("../probe/recipe.toml", "../probe/init", "../probe/dhcp")

MODULES = ("vfat", "nls_cp437", "nls_ascii")
"""Kernel modules beside the probe's: for the file systems that are made on the disk."""

FILES = {
    "isolinux": {"partition": "usr/lib/ISOLINUX/isohdppx.bin"},
    "syslinux-common": {"mbr": "usr/lib/syslinux/mbr/mbr.bin"},
    "grub-efi-amd64-signed": {"disk_grub": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"},
}
"""Further files of the probe's packages, in the recipe's terms."""

SETUP_BYTES = 17 * 2**20
"""More than a loader reads; a key is pressed until so much is read (Running.press_any_key)."""


def ensure(
    progress: Callable[[str], None] = lambda _: None, *, folder: Path = RECIPE, cache: Path | None = None
) -> Path:
    """Return the medium, built unless it is in the cache already and unharmed.

    Args:
        progress: receives a line about each step.
        folder: the stand-in's files; the probe's lie beside it.
        cache: the folder of downloads and media; by default the project's own cache.

    Raises:
        MediaError: an input could not be fetched, or the medium not be built or stored.
    """
    name = f"standin-{recipe.fingerprint(folder, (*OWN, *LOADERS, *PROBES, str(Path(__file__))))}"

    def made(downloads: Path) -> dict[str, bytes]:
        ingredients = recipe.load((folder / PROBES[0]).parent)
        sources = [*apt.mirrors(), *(apt.Mirror(url) for url in ingredients.fallback)]
        taken: dict[str, bytes] = {}
        modules: dict[str, bytes] = {}
        for package in ingredients.inputs:
            path = download.fetch(package, downloads, sources, progress)
            wanted = package.files | FILES.get(package.package, {})
            taken |= packages.taken(package.model_copy(update={"files": wanted}), path)
            modules |= packages.contents(path, set(), f"{ingredients.modules}/")
        loadable, dependencies = packages.module_closure([*ingredients.load, *MODULES], modules)
        place = f"lib/modules/{Path(ingredients.modules).name}"
        initrd = _initrd(
            folder,
            taken["busybox"],
            {f"{place}/{file}": module for file, module in loadable.items()}
            | {f"{place}/modules.dep": dependencies.encode()},
        )
        return {"standin.iso": _medium(folder, name, taken, initrd)}

    return store.ensured(name, progress, made, cache) / "standin.iso"


def _initrd(folder: Path, busybox: bytes, modules: dict[str, bytes]) -> bytes:
    # The probe's functions, without its start.
    functions = (folder / "../probe/init").read_bytes().rpartition(b"\ncase ${1-} in\n")[0] + b"\n"
    return formats.cpio(
        formats.Tree(
            files=modules | {"probe": functions},
            executables={name: (folder / name).read_bytes() for name in OWN}
            | {"dhcp": (folder / "../probe/dhcp").read_bytes(), "bin/busybox": busybox},
            links={"bin/sh": "busybox"},
            folders=("cd", "dev", "mnt", "proc", "run", "sys"),
        )
    )


def _medium(folder: Path, name: str, taken: dict[str, bytes], initrd: bytes) -> bytes:
    def bootable(volume: str, configuration: str, efi: bytes, more: dict[str, bytes]) -> bytes:
        """Return an ISO that isolinux boots."""
        return formats.iso(
            volume,
            {
                "boot/vmlinuz": taken["vmlinuz"],
                "boot/initrd": initrd,
                "efi.img": efi,
                "isolinux/isolinux.bin": taken["isolinux"],
                "isolinux/isolinux.cfg": (folder / configuration).read_bytes(),
                "isolinux/ldlinux.c32": taken["ldlinux"],
                **more,
            },
            bios="isolinux/isolinux.bin",
            efi="efi.img",
        )

    return bootable(
        VOLUME,
        "isolinux.cfg",
        formats.efi_image({"BOOTX64.EFI": taken["shim"], "GRUBX64.EFI": taken["signed_grub"]}),
        {
            ".disk/info": f"{name}\n".encode(),  # by which Debian's GRUB finds the medium
            "boot/grub/grub.cfg": (folder / "grub.cfg").read_bytes(),
            "sources/bios.img": in_partition(
                bootable("SYSTEM", "disk/isolinux.cfg", bytes(2048), {}), taken["partition"]
            ),
            "sources/bootx64.efi": taken["shim"],
            "sources/grub.cfg": (folder / "disk/grub.cfg").read_bytes(),
            "sources/grubx64.efi": taken["disk_grub"],
            "sources/mbr.bin": taken["mbr"],
            "sources/setup.bin": bytes(SETUP_BYTES),
        },
    )


def in_partition(iso: bytes, boot_code: bytes) -> bytes:
    """Return an ISO that isolinux boots in a way that a BIOS boots it from a disk's partition.

    The boot code's sector says where isolinux.bin is, in sectors of 512 bytes from the partition's begin.

    Source: isohybrid.c of syslinux; "El Torito" 1.0, 2.0, for the boot catalog and its first entry.

    Args:
        iso: sectors of 2048 bytes, of which the first 16 are free.
        boot_code: isohdppx.bin of syslinux.
    """
    (catalog,) = struct.unpack_from("<I", iso, 17 * 2048 + 0x47)
    (loader,) = struct.unpack_from("<I", iso, catalog * 2048 + 32 + 8)
    sector = (boot_code + struct.pack("<Q", loader * 4)).ljust(510, b"\0") + b"\x55\xaa"
    return sector + iso[512:]


def is_standin(iso: Path) -> bool:
    """Say whether an ISO is the stand-in's; raises OSError where it cannot be read."""
    with iso.open("rb") as file:
        file.seek(16 * 2048 + 40)
        return file.read(32).rstrip() == VOLUME.encode()
