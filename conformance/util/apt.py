"""The Debian mirrors of the machine's own apt; this project names no mirror."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIRROR_VARIABLE = "CONFORMANCE_DEBIAN_MIRROR"
"""Names the Debian archive to use instead of apt's."""

_FORMAT = "$(REPO_URI)|$(ORIGIN)|$(LABEL)"


@dataclass(frozen=True)
class Mirror:
    """A Debian archive: its URL with a final slash, and whether it is the security archive."""

    url: str
    security: bool = False

    def line(self, suite: str) -> str:
        """Return the line of sources.list for a suite of this archive, such as ``trixie``."""
        return f"deb {self.url} {suite}{'-security' if self.security else ''} main"


def mirrors() -> list[Mirror]:
    """Return the Debian archives to use, the main ones first.

    Only ``$CONFORMANCE_DEBIAN_MIRROR`` if it is set, else the archives of apt's last update, and the security archive
    of its sources, updated or not, since no other one may have a pinned package. The list is empty if the machine is
    not a Debian, or its apt was never updated.
    """
    override = os.environ.get(MIRROR_VARIABLE)
    if override:
        return [Mirror(_slashed(override))]
    try:
        return parse(_targets(), _targets("--no-release-info"))
    except (OSError, subprocess.SubprocessError):
        return []


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
    """Return the lines of sources.list for a suite of the machine's archives, or none without a main archive."""
    known = mirrors()
    return [mirror.line(suite) for mirror in known] if known and not known[0].security else []


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
