"""The packages that a lab needs on this machine, from ``lab/packages``; missing ones are named before any work."""

import getpass
import os
import shutil
from pathlib import Path
from typing import Literal

from conformance.errors import LabError
from conformance.lab import DEFINITIONS
from conformance.util import namespaces, process

Purpose = Literal["start", "disk", "user", "qemu"]
"""The start of a lab, making a disk, making it as a user other than root, and building QEMU."""

LIST = DEFINITIONS / "packages"


def require(*purposes: Purpose) -> None:
    """Check that the programs and files for some purposes exist.

    Raises:
        LabError: packages are missing, or this user may not use user namespaces.
    """
    missing = [
        package
        for purpose, what, package in _rows()
        if purpose in purposes
        and not (Path(what).exists() if what.startswith("/") else shutil.which(what, path=search_path()))
    ]
    if missing:
        words = " ".join(dict.fromkeys(missing))
        raise LabError(
            f"the lab needs packages that are not installed: {words}",
            f"sudo apt-get install --no-install-recommends {words}; ./run lab installs them too",
        )
    if "user" in purposes:
        _require_users()


def _require_users() -> None:
    refusal = namespaces.refusal(*process.NAMESPACE)
    if refusal:
        user = getpass.getuser()
        raise LabError(
            f"{user} cannot make files of other users in a user namespace: {refusal.message}",
            f"{refusal.remedy}; sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user};"
            " or run it as root",
        )


def search_path() -> str:
    """Return PATH with the sbin folders, which an ordinary login on Debian lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _rows() -> list[list[str]]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]
