"""From unpacked packages to the probe's media."""

from pathlib import Path

from conformance.errors import MediaError
from conformance.media import formats, packages
from conformance.media.recipe import FILES, PEER_PAGES, Package, Recipe


def media(folder: Path, recipe: Recipe, inputs: list[tuple[Package, Path]], name: str) -> dict[str, bytes]:
    """Return the media's content by file name.

    Args:
        folder: the recipe's, with the guest's own files.
        recipe: the recipe.
        inputs: its packages and where they lie.
        name: goes onto the ISO, for the guest to report.

    Raises:
        MediaError: a package lacks a file that the recipe takes from it.
    """
    taken: dict[str, bytes] = {}
    modules: dict[str, bytes] = {}
    for package, path in inputs:
        found = packages.contents(path, {*package.files.values()}, f"{recipe.modules}/")
        for key, file in package.files.items():
            if file not in found:
                raise MediaError(f"{package} has no file {file}", "correct `files` of that package in the recipe")
            taken[key] = found.pop(file)
        modules |= found
    missing = {"vmlinuz", "busybox", "isolinux", "ldlinux", "grub", "shim", "signed_grub"} - taken.keys()
    if missing:
        raise MediaError(f"the recipe takes no {', '.join(sorted(missing))} from any package", "correct its `files`")
    own = {file: (folder / file).read_bytes() for file in FILES}

    initrd = formats.cpio(_initramfs(recipe, taken["busybox"], own, modules))

    def iso(loaders: dict[str, bytes]) -> bytes:
        return formats.iso(
            recipe.volume,
            {
                ".disk/info": f"{name}\n".encode(),  # Debian's GRUB looks for this file to find the medium, too
                "boot/grub/grub.cfg": own["grub.cfg"],
                "boot/vmlinuz": taken["vmlinuz"],
                "boot/initrd": initrd,
                "efi.img": formats.efi_image(loaders),
                "isolinux/isolinux.bin": taken["isolinux"],
                "isolinux/isolinux.cfg": own["isolinux.cfg"],
                "isolinux/ldlinux.c32": taken["ldlinux"],
            },
            bios="isolinux/isolinux.bin",
            efi="efi.img",
        )

    return {
        "probe.iso": iso({"BOOTX64.EFI": taken["grub"]}),
        # The firmware trusts shim, and shim trusts the GRUB that lies beside it, and the kernel that this loads.
        "signed.iso": iso({"BOOTX64.EFI": taken["shim"], "GRUBX64.EFI": taken["signed_grub"]}),
        "vmlinuz": taken["vmlinuz"],
        "initrd": initrd,
        "peer.tar": _peer(taken["busybox"], own),
    }


def _initramfs(recipe: Recipe, busybox: bytes, own: dict[str, bytes], modules: dict[str, bytes]) -> formats.Tree:
    loadable, dependencies = packages.module_closure(recipe.load, modules)
    # The kernel looks for modules under its release; the package's folder is named by it.
    place = f"lib/modules/{Path(recipe.modules).name}"
    return formats.Tree(
        files={f"{place}/{file}": module for file, module in loadable.items()}
        | {f"{place}/modules.dep": dependencies.encode()},
        executables={"init": own["init"], "dhcp": own["dhcp"], "bin/busybox": busybox},
        links={"bin/sh": "busybox"},
        folders=("dev", "mnt", "proc", "run", "sys"),
    )


def _peer(busybox: bytes, own: dict[str, bytes]) -> bytes:
    return formats.tar(
        formats.Tree(
            executables={"bin/busybox": busybox} | {f"www/cgi-bin/{page}": own[page] for page in PEER_PAGES},
            links={"bin/sh": "busybox"},
            folders=("tmp",),
        )
    )
