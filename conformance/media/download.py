"""Fetching pinned packages: from the machine's own Debian archive, else from where old ones are kept."""

import errno
import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path

from conformance.errors import MediaError
from conformance.media.recipe import Pinned
from conformance.util.apt import MIRROR_VARIABLE, Mirror

STALL = 30.0
"""Seconds without a byte after which the next server is tried."""

LONGEST = 900.0
"""Seconds that one file may take."""


class _Refused(Exception):
    """One server did not give the file; ``kind`` is one of the keys of :data:`_REMEDIES`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


_REMEDIES = {
    "checksum": "if this network rewrites downloads (a portal, a proxy), use another; if the archive is right, "
    "correct the pin in the recipe",
    "gone": f"Debian has superseded it: pin the present version in the recipe, or set {MIRROR_VARIABLE} to an "
    "archive that still has this one",
    "network": "check the network (http_proxy and https_proxy are honoured); where only old archives were tried, run "
    f"`apt-get update` so that this machine's apt knows its own; or set {MIRROR_VARIABLE} to one that can be reached",
}


def fetch(package: Pinned, folder: Path, sources: Sequence[Mirror], progress: Callable[[str], None]) -> Path:
    """Return the package's file, fetched unless a whole one is there already.

    The file appears under its final name, its checksum, only when it is complete and right; it is verified
    again at each call. One process at a time may call this for a folder.

    Args:
        package: the file to fetch.
        folder: where downloads are kept.
        sources: archives to ask in turn.
        progress: receives a line about each step.

    Raises:
        MediaError: no source gave the right file, or it could not be stored; the remedy fits the cause.
    """
    path = folder / f"{package.sha256}.deb"
    refusals: list[_Refused] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if sha256(path) == package.sha256:
                return path
            progress(f"the stored {package} is damaged: fetching it again")
            path.unlink()
        for archive in sources:
            # The security archive keeps its own pool below the same names.
            pool = package.pool.replace("pool/", "pool/updates/", 1) if archive.security else package.pool
            progress(f"fetching {package} from {archive.url}")
            partial = path.with_suffix(".partial")
            try:
                _download(archive.url + pool, partial, package.sha256)
            except _Refused as refusal:
                refusals.append(refusal)
            else:
                return partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    if not sources:
        raise MediaError(
            f"no Debian archive is known to fetch {package} from: this machine's apt names none",
            f"run `apt-get update` on a Debian machine, or set {MIRROR_VARIABLE} to the URL of a Debian archive",
        )
    kind = min((refusal.kind for refusal in refusals), key=list(_REMEDIES).index)
    refusals_text = "; ".join(str(refusal) for refusal in refusals)
    raise MediaError(f"{package} could not be fetched: {refusals_text}", _REMEDIES[kind])


def _download(url: str, path: Path, expected: str) -> None:
    """Download ``url`` to ``path``.

    Raises:
        _Refused: the server did not answer, has no such file, broke off, or gave another one.
        OSError: the file could not be written.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for block in _blocks(url):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != expected:
        raise _Refused("checksum", f"{url} has SHA-256 {digest.hexdigest()} where the recipe pins {expected}")


def _blocks(url: str) -> Iterator[bytes]:
    """Yield the content behind ``url``, whole or with a :class:`_Refused` at the end."""
    deadline = time.monotonic() + LONGEST
    received = 0
    try:
        # The scheme is http or https: neither mirrors() nor the recipe lets another through.
        with urllib.request.urlopen(url, timeout=STALL) as answer:  # noqa: S310
            length = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(1 << 20):
                received += len(block)
                yield block
                if time.monotonic() > deadline:
                    raise _Refused("network", f"{url} took more than {LONGEST:g} s")
    except urllib.error.HTTPError as error:
        kind = "gone" if error.code in (404, 410) else "network"
        raise _Refused(kind, f"{url} answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _Refused("network", f"{url}: {getattr(error, 'reason', error)}") from error
    if received < length:
        raise _Refused("network", f"{url} broke off after {received} of {length} bytes")


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def storage_error(error: OSError, folder: Path) -> MediaError:
    """Return an error with a remedy for a ``folder`` that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MediaError(
            f"no space is left for boot media in {folder}",
            "free about 150 MB there, or point CONFORMANCE_CACHE at a folder elsewhere",
        )
    return MediaError(
        f"{folder} cannot be used for boot media: {error}",
        "give this user that folder, or point CONFORMANCE_CACHE at one of its own",
    )
