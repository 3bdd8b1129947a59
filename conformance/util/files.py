"""Files that are written completely or not at all, and the remedy where they cannot be written."""

import contextlib
import errno
import os
from pathlib import Path

from conformance.errors import BadOption, HarnessError


def remedy(error: OSError, elsewhere: str) -> str:
    """Return the remedy for a file that cannot be written.

    Args:
        error: of the write.
        elsewhere: how to choose another place, as an imperative.
    """
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{'free disk space' if full else 'make the folder writable'}, or {elsewhere}; then run it again"


def write(path: Path, text: str, elsewhere: str, *, parents: bool = False) -> None:
    """Write a file completely or not at all: on a full disk the old one stays.

    Args:
        path: the file.
        text: the content.
        elsewhere: how to choose another place, as an imperative.
        parents: make the folder, if it is missing.

    Raises:
        HarnessError: the file cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise HarnessError(f"cannot write {path}: {error.strerror}", remedy(error, elsewhere)) from error


def require_folder(folder: Path, elsewhere: str) -> Path:
    """Return a folder, or the nearest existing one above it; raise before any work where that is no folder.

    Args:
        folder: need not exist yet.
        elsewhere: how to choose another place, as an imperative.

    Raises:
        BadOption: it is a file, or below one.
    """
    nearest = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not nearest.is_dir():
        raise BadOption(f"cannot write to {folder}: {nearest} is no folder", elsewhere)
    return nearest


def require_writable(folder: Path, elsewhere: str) -> None:
    """Raise before any work where a folder, or the nearest folder above it, cannot be written.

    Args:
        folder: need not exist yet.
        elsewhere: how to choose another place, as an imperative.

    Raises:
        BadOption: it is no folder.
        HarnessError: this process must not write there.
    """
    nearest = require_folder(folder, elsewhere)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise HarnessError(f"cannot write to {folder}: {nearest} is read-only for this user", elsewhere)
