"""The recipe: which packages the media are made of, and the name that all of it together gives them."""

import hashlib
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import MediaError

PEER_PAGES = ("whoami", "blob", "receive")
FILES = ("recipe.toml", "init", "dhcp", *PEER_PAGES, "grub.cfg", "isolinux.cfg")


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pinned(_Data):
    """A pinned file of a Debian archive.

    Attributes:
        pool: the file's path below the archive's root.
        sha256: the file's checksum, in hex.
    """

    pool: Annotated[str, Field(pattern=r"^pool/[^/].+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def __str__(self) -> str:
        return self.pool.rpartition("/")[2]


class Package(Pinned):
    """A pinned package whose files media are made of.

    Attributes:
        package: the package's name.
        version: its version.
        files: paths inside the package by the names that the builder uses.
    """

    package: str
    version: str
    files: dict[str, str]

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


class Recipe(_Data):
    """The content of recipe.toml; its comments give the reasons.

    Attributes:
        volume: ISO 9660 volume identifier.
        fallback: archives that keep superseded packages, tried last.
        modules: folder of the kernel's modules, inside its package.
        load: modules that the guest may load.
        inputs: the packages.
    """

    volume: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,32}$")]
    fallback: list[Annotated[str, Field(pattern=r"^https?://.+/$")]]
    modules: str
    load: list[str]
    inputs: list[Package]


def load(folder: Path) -> Recipe:
    """Read a recipe.

    Raises:
        MediaError: it is invalid.
    """
    path = folder / "recipe.toml"
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise MediaError(f"{path} is not a recipe: {error}", "correct it, or restore it from the repository") from error


def fingerprint(folder: Path, files: Sequence[str] = FILES) -> str:
    """Return the media's name: a hash of the recipe's files and the builder, on which all their bytes depend."""
    digest = hashlib.sha256(f"pycdlib {version('pycdlib')}\n".encode())
    for path in (*(folder / name for name in files), *sorted(Path(__file__).parent.glob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
