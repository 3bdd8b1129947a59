"""The probe's media: the guest that the harness boots, and the peer that this guest talks to.

Built from the pinned Debian packages of fixtures/isos/probe/recipe.toml, without root and without programs
beside Python; the same recipe gives the same bytes. fixtures/isos/probe/README.md describes the
guest's orders and reports.

>>> medium = ensure(progress=print)
>>> medium.iso, medium.kernel, medium.initrd, medium.peer
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.media import build, download, recipe, store
from conformance.util import apt, paths

RECIPE = paths.ISOS / "probe"

CMDLINE = "console=ttyS0 loglevel=1 no_timer_check panic=-1"
"""Kernel command line for a direct boot of ``kernel`` and ``initrd``; orders may follow. After a panic the guest
reboots at once instead of waiting: a domain needs ``on_reboot`` destroy."""

DISK_OFFSET = 1 << 20
"""Where on the disk the guest writes its pattern, in bytes."""

DISK_LENGTH = 1 << 18
"""How long that pattern is, in bytes."""

PEER_PORT = 8080
"""The TCP port on which the peer answers."""

PEER_COMMAND = ["/bin/busybox", "httpd", "-f", "-p", f"0.0.0.0:{PEER_PORT}", "-h", "/www"]
"""The command of a container of the imported ``peer``. It answers ``/cgi-bin/whoami?QUERY`` with one line of JSON,
``{"client": ADDRESS, "query": QUERY}``: where the request came from, as the peer sees it. It ignores SIGTERM."""


@dataclass(frozen=True)
class Probe:
    """The built media.

    Attributes:
        iso: boots by BIOS and by UEFI, from CD-ROM; its UEFI loader is not signed.
        signed_iso: the same with a signed chain of loaders, which Secure Boot lets through.
        kernel: for a direct boot.
        initrd: for a direct boot.
        peer: tar of a root file system, for the engine's import; see :data:`PEER_COMMAND`.
        recipe: names the media; the guest reports it from the ISO as ``marker``.
    """

    iso: Path
    signed_iso: Path
    kernel: Path
    initrd: Path
    peer: Path
    recipe: str


def disk_pattern(nonce: str) -> bytes:
    """Return the pattern that a guest with this nonce writes at :data:`DISK_OFFSET`: numbered lines, cut to length."""
    lines = "".join(f"probe {nonce} {number}\n" for number in range(1, 100_001))
    return lines.encode()[:DISK_LENGTH]


def ensure(
    progress: Callable[[str], None] = lambda _: None, *, folder: Path = RECIPE, cache: Path | None = None
) -> Probe:
    """Return the probe's media, built unless they are in the cache already and unharmed.

    Processes that build at the same time wait for each other.

    Args:
        progress: receives a line about each step.
        folder: the recipe's.
        cache: the folder of downloads and media; by default the project's own cache.

    Raises:
        MediaError: an input could not be fetched, or the media not be built or stored.
    """
    name = recipe.fingerprint(folder)

    def made(downloads: Path) -> dict[str, bytes]:
        ingredients = recipe.load(folder)
        sources = [*apt.mirrors(), *(apt.Mirror(url) for url in ingredients.fallback)]
        packages = [(package, download.fetch(package, downloads, sources, progress)) for package in ingredients.inputs]
        progress("building the probe guest")
        return build.media(folder, ingredients, packages, name)

    return _probe(store.ensured(name, progress, made, cache))


def cached(*, folder: Path = RECIPE, cache: Path | None = None) -> Probe | None:
    """Return the probe's media if they are in the cache, unharmed; fetches and builds nothing."""
    media = (cache or paths.cache()) / "media" / recipe.fingerprint(folder)
    return _probe(media) if store.intact(media) else None


def _probe(media: Path) -> Probe:
    return Probe(
        iso=media / "probe.iso",
        signed_iso=media / "signed.iso",
        kernel=media / "vmlinuz",
        initrd=media / "initrd",
        peer=media / "peer.tar",
        recipe=media.name,
    )
