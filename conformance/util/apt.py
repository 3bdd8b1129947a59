"""Debian archives: those of the machine's own apt; elsewhere, as on Ubuntu, whose apt has others, Debian's own."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.errors import HarnessError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive, from the package debian-archive-keyring, which Ubuntu has, too."""

MIRROR_VARIABLE = "CONFORMANCE_DEBIAN_MIRROR"
"""Names the Debian archive to use instead of apt's."""

_FORMAT = "$(REPO_URI)|$(ORIGIN)|$(LABEL)"


@dataclass(frozen=True)
class Mirror:
    """A Debian archive: its URL with a final slash, and whether it is the security archive."""

    url: str
    security: bool = False

    def line(self, suite: str, *, signed_by: Path | None = None) -> str:
        """Return the line of sources.list for a suite of this archive, such as ``trixie``.

        Args:
            suite: the suite's name in the main archive.
            signed_by: the archive's keys, where apt does not trust them anyway.
        """
        options = f"[signed-by={signed_by}] " if signed_by else ""
        return f"deb {options}{self.url} {suite}{'-security' if self.security else ''} main"


DEBIAN = (
    Mirror("http://deb.debian.org/debian/"),
    Mirror("http://deb.debian.org/debian-security/", security=True),
)
"""Debian's own archives, on its content delivery network, for machines that are not Debian."""


def is_debian() -> bool:
    """Return whether this machine is Debian itself: a derivative's apt has other archives and keys."""
    try:
        return platform.freedesktop_os_release().get("ID") == "debian"
    except OSError:
        return False


def mirrors() -> list[Mirror]:
    """Return the Debian archives to use, the main ones first.

    Only ``$CONFORMANCE_DEBIAN_MIRROR`` if it is set, else the archives of apt's last update, and the security archive
    of its sources, updated or not, since no other one may have a pinned package. On a machine that is not Debian,
    :data:`DEBIAN` if its apt has no Debian archive. The list is empty on a Debian whose apt was never updated.
    """
    override = os.environ.get(MIRROR_VARIABLE)
    if override:
        return [Mirror(_slashed(override))]
    try:
        found = parse(_targets(), _targets("--no-release-info"))
    except (OSError, subprocess.SubprocessError):
        found = []
    return found or ([] if is_debian() else [*DEBIAN])


def _targets(*options: str) -> str:
    command = ["apt-get", *options, "indextargets", "--format", _FORMAT, "Created-By: Packages"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def parse(updated: str, named: str = "") -> list[Mirror]:
    """Return the archives in the output of ``apt-get indextargets``, each once, the main ones first.

    Args:
        updated: the output for archives with package lists.
        named: the output for all archives of its sources, with ``--no-release-info``; of these, Debian's security
            archive counts beside a main one. Its URL identifies it, since nothing else is known of it.
    """
    found: dict[Mirror, None] = {}
    for line in updated.splitlines():
        uri, origin, label = line.split("|")
        if origin == "Debian":  # derivatives have their own origin
            found |= dict.fromkeys(Mirror(_slashed(url), label == "Debian-Security") for url in _archives(uri))
    if found:
        urls = [_slashed(url) for line in named.splitlines() for url in _archives(line.split("|")[0])]
        found |= dict.fromkeys(Mirror(url, security=True) for url in urls if url.endswith("/debian-security/"))
    return sorted(found, key=lambda mirror: mirror.security)


def sources(suite: str) -> list[str]:
    """Return the lines of sources.list for a suite of Debian, or none without a main archive.

    Raises:
        HarnessError: this machine is not Debian, and has no keys of Debian's archive.
    """
    known = mirrors()
    if not known or known[0].security:
        return []
    if is_debian():
        return [mirror.line(suite) for mirror in known]
    if not KEYRING.exists():
        raise HarnessError(
            f"the keys of Debian's archive are missing: {KEYRING} does not exist",
            "sudo apt-get install debian-archive-keyring",
        )
    return [mirror.line(suite, signed_by=KEYRING) for mirror in known]


def _slashed(url: str) -> str:
    return url.rstrip("/") + "/"


def _archives(uri: str) -> Iterator[str]:
    """Yield the HTTP archives of a URI of apt; Debian's cloud images use lists in files.

    Source: apt-transport-mirror(1).
    """
    if uri.startswith("mirror+file:"):
        with contextlib.suppress(OSError):
            for line in Path("/" + uri.removeprefix("mirror+file:").strip("/")).read_text().splitlines():
                yield from _archives(line.partition("#")[0].strip().partition("\t")[0].partition(" ")[0])
    elif uri.startswith(("http://", "https://")):
        yield uri
