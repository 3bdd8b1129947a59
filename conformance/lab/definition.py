"""Definitions of lab hosts: data, one file for each host in lab/hosts/."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from conformance.errors import ContractError
from conformance.lab import DEFINITIONS
from conformance.media.recipe import Pinned

DEFAULT = "debian-13"
"""The host of ``--host lab``."""

KEY_LENGTH = 12
"""Length of the hash that names a host's disk, in hex digits."""

HERE = "here"
"""``--host here`` means this machine's engine, or the one that DOCKER_HOST names."""

PREFIX = "lab"
"""Begins the name of a lab host: ``--host lab`` or ``--host lab:NAME``."""


class Host(BaseModel):
    """A lab host.

    Attributes:
        name: the file's name.
        summary: one line for the list of hosts.
        suite: Debian's name of the release that its packages are from.
        packages: packages beside the essential ones.
        fallback: archives of superseded packages, tried last.
        kernel_arguments: arguments beside those of every lab.
        setup: commands that run once in the root file system, when it is made.
        cpus: processors. One, because emulating QEMU before 8.1 may execute code that another processor has just
            patched: with two, the lab's kernel, which patches itself when the first guest starts and the last one ends,
            crashed within the hour ("Oops: int3" in __schedule).
        memory_mib: memory, in MiB.
        disk_gib: size of its sparse disk, in GiB.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    summary: str
    suite: str
    packages: tuple[str, ...]
    fallback: tuple[Annotated[str, Field(pattern=r"^https?://.+/$")], ...]
    kernel_arguments: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    cpus: int = Field(default=1, ge=1)
    memory_mib: int = Field(default=2800, ge=1024)
    disk_gib: int = Field(default=8, ge=2)

    @property
    def pins(self) -> Path:
        """Return the file that pins each package of the host."""
        return DEFINITIONS / "hosts" / f"{self.name}.pins"

    @property
    def overlays(self) -> list[Path]:
        """Return the folders of files that replace those of packages: for every lab, and for this host."""
        own = DEFINITIONS / "hosts" / self.name
        return [DEFINITIONS / "overlay", *([own] if own.is_dir() else [])]

    @property
    def folder(self) -> str:
        """Return the name of the folder in the cache that holds the host's disk."""
        return f"{self.name}-{self.key}"

    @property
    def pinned(self) -> list[Pinned]:
        """Return every package of the host.

        Raises:
            ContractError: the file is missing or damaged.
        """
        try:
            rows = [line.split() for line in self.pins.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
            return [Pinned(sha256=sha256, pool=pool) for sha256, pool in rows]
        except (OSError, ValueError) as error:
            raise ContractError(
                f"{self.pins.name} pins no packages: {error}", f"conformance lab pin {self.name}"
            ) from error

    @property
    def key(self) -> str:
        """Return a hash of everything that the disk is made from; raises what :attr:`pinned` raises."""
        _ = self.pinned
        digest = hashlib.sha256(self.model_dump_json().encode() + self.pins.read_bytes())
        files = [path for folder in self.overlays for path in sorted(folder.rglob("*"))]
        for path in (*files, DEFINITIONS / "assemble"):
            if path.is_file():
                digest.update(f"{path.relative_to(DEFINITIONS)}\n".encode() + path.read_bytes())
        return digest.hexdigest()[:KEY_LENGTH]


def names() -> list[str]:
    """Return the names of all lab hosts."""
    return sorted(path.stem for path in (DEFINITIONS / "hosts").glob("*.toml"))


def load(name: str = DEFAULT) -> Host:
    """Read a host's definition.

    Raises:
        ContractError: no file has that name, or the file is not a definition.
    """
    path = DEFINITIONS / "hosts" / f"{name}.toml"
    if name not in names():
        raise ContractError(f"no lab host is called {name!r}", f"choose one of: {', '.join(names())}")
    try:
        return Host(name=name, **tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ContractError(f"lab/hosts/{path.name} defines no lab host: {error}") from error


def named(word: str) -> Host | None:
    """Return the lab host of ``--host lab`` or ``--host lab:NAME``; none for :data:`HERE`.

    Raises:
        ContractError: the word names no host.
    """
    if word == HERE:
        return None
    prefix, _, name = word.partition(":")
    if prefix != PREFIX:
        known = ", ".join([HERE, PREFIX, *(f"{PREFIX}:{one}" for one in names())])
        raise ContractError(
            f"no host is called {word!r}", f"choose one of: {known}; DOCKER_HOST names an engine anywhere else"
        )
    return load(name or DEFAULT)
