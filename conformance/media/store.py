"""Keeping built media: whole or not at all, verified before use, built by one process at a time."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from conformance.errors import MediaError
from conformance.media.download import sha256, storage_error
from conformance.util import paths

CHECKSUMS = "SHA256SUMS"
"""In each folder of media, as sha256sum writes it."""

BUILD_SECONDS = 1800.0
"""How long to wait for another process that fetches and builds."""


@contextmanager
def locked(path: Path, progress: Callable[[str], None], what: str = "the boot media") -> Iterator[None]:
    """Hold the lock file ``path``; the kernel drops it with the process, so a crash leaves nothing locked.

    Args:
        path: the lock file.
        progress: receives a line when another process holds it.
        what: the media that the holder builds.

    Raises:
        MediaError: another process held it for :data:`BUILD_SECONDS`.
        OSError: the file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another process that builds {what}")
        try:
            lock.acquire(timeout=BUILD_SECONDS)
        except Timeout as error:
            raise MediaError(
                f"another process has been building {what} for {BUILD_SECONDS:g} s",
                f"end the process that holds {path} (fuser {path} names it)",
            ) from error
    try:
        yield
    finally:
        lock.release()


def ensured(
    name: str, progress: Callable[[str], None], make: Callable[[Path], dict[str, bytes]], cache: Path | None = None
) -> Path:
    """Return the folder of some media, made unless they are in the cache already and unharmed.

    Processes that build at the same time wait for each other.

    Args:
        name: the folder's; it has to change with every input of the media.
        progress: receives a line when another process builds.
        make: returns the media by their names; its argument is the folder of downloads.
        cache: the folder of downloads and media; by default the project's own cache.

    Raises:
        MediaError: the media cannot be stored, or another process never came to its end.
    """
    try:
        cache = cache or paths.cache()
        folder = cache / "media" / name
        with locked(cache / "media.lock", progress):
            if not intact(folder):
                put(folder, make(cache / "downloads"))
    except OSError as error:
        raise storage_error(error, cache or Path(paths.PROJECT)) from error
    return folder


def intact(folder: Path) -> bool:
    """Say whether the media are all there, with the bytes that were stored."""
    try:
        lines = (folder / CHECKSUMS).read_text().splitlines()
        return bool(lines) and all(sha256(folder / name) == digest for digest, name in map(str.split, lines))
    except (OSError, ValueError):
        return False


def put(folder: Path, media: dict[str, bytes]) -> None:
    """Store media under ``folder``, in place of earlier ones.

    Raises:
        OSError: no space, or no permission.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as temporary:
        building = Path(temporary) / folder.name
        building.mkdir()
        for name, content in media.items():
            (building / name).write_bytes(content)
        sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in media.items())
        (building / CHECKSUMS).write_text(sums)
        if folder.exists():
            shutil.rmtree(folder)
        building.rename(folder)
