"""Debian's own installer as a medium that installs unattended: see fixtures/isos/debian/README.md."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import MediaError
from conformance.media import download, formats, packages, recipe, store
from conformance.media.recipe import Package, Pinned
from conformance.util import apt, paths

RECIPE = paths.ISOS / "debian"

PROBE = "../probe/recipe.toml"
"""The recipe of the boot loaders, beside this one."""

FILES = ("recipe.toml", "preseed.cfg", "agent", "conformance.service", "grub.cfg", "isolinux.cfg", PROBE)

LOADERS = {"isolinux", "ldlinux", "shim", "signed_grub"}
"""A signed chain boots by UEFI whether Secure Boot is enforced or not."""


class _Recipe(BaseModel):
    """The content of recipe.toml; its comments give the reasons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    fallback: list[str]
    installer: Package
    components: tuple[Pinned, ...]


@dataclass(frozen=True)
class Medium:
    """The built medium.

    Attributes:
        iso: boots by BIOS and by UEFI, Secure Boot included.
        suite: the Debian release that it installs, by its name in the archive.
        version: of the installer.
    """

    iso: Path
    suite: str
    version: str


def ensure(
    progress: Callable[[str], None] = lambda _: None, *, folder: Path = RECIPE, cache: Path | None = None
) -> Medium:
    """Return the installer's medium, built unless it is in the cache already and unharmed.

    Processes that build at the same time wait for each other.

    Args:
        progress: receives a line about each step.
        folder: the recipe's.
        cache: the folder of downloads and media; by default the project's own cache.

    Raises:
        MediaError: the recipe is invalid, an input could not be fetched, or the medium not be built or stored.
    """
    ingredients = _load(folder)
    name = f"debian-{recipe.fingerprint(folder, FILES)}"

    def made(downloads: Path) -> dict[str, bytes]:
        return {"debian.iso": _iso(folder, ingredients, name, _fetcher(ingredients, downloads, progress))}

    built = store.ensured(name, progress, made, cache)
    return Medium(built / "debian.iso", ingredients.suite, ingredients.installer.version)


def _load(folder: Path) -> _Recipe:
    path = folder / "recipe.toml"
    try:
        return _Recipe.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise MediaError(f"{path} is not a recipe: {error}", "correct it, or restore it from the repository") from error


def _fetcher(ingredients: _Recipe, downloads: Path, progress: Callable[[str], None]) -> Callable[[Pinned], Path]:
    sources = [*apt.mirrors(), *map(apt.Mirror, ingredients.fallback)]
    return lambda pinned: download.fetch(pinned, downloads, sources, progress)


def _iso(folder: Path, ingredients: _Recipe, name: str, fetched: Callable[[Pinned], Path]) -> bytes:
    taken: dict[str, bytes] = {}
    loaders = [one for one in recipe.load((folder / PROBE).parent).inputs if LOADERS & one.files.keys()]
    for package in (*loaders, ingredients.installer):
        taken |= packages.taken(package, fetched(package))
    # A second archive after the first one: the kernel unpacks both (buffer-format.rst), and the installer takes a
    # preseed.cfg at the root for its answers.
    own = formats.cpio(
        formats.Tree(
            files={"preseed.cfg": (folder / "preseed.cfg").read_bytes()}
            | {f"conformance/{file}": (folder / file).read_bytes() for file in ("agent", "conformance.service")}
            | {f"conformance/components/{one}": fetched(one).read_bytes() for one in ingredients.components}
        )
    )
    initrd = taken["initrd"]
    return formats.iso(
        "DEBIAN",
        {
            ".disk/info": f"{name}\n".encode(),  # by which Debian's GRUB finds the medium
            "boot/grub/grub.cfg": (folder / "grub.cfg").read_bytes(),
            "boot/vmlinuz": taken["vmlinuz"],
            "boot/initrd": initrd + bytes(-len(initrd) % 4) + own,
            "efi.img": formats.efi_image({"BOOTX64.EFI": taken["shim"], "GRUBX64.EFI": taken["signed_grub"]}),
            "isolinux/isolinux.bin": taken["isolinux"],
            "isolinux/isolinux.cfg": (folder / "isolinux.cfg").read_bytes(),
            "isolinux/ldlinux.c32": taken["ldlinux"],
        },
        bios="isolinux/isolinux.bin",
        efi="efi.img",
    )
