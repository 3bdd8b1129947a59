"""User namespaces, in which a user other than root makes files of every owner, and network devices of its own."""

import subprocess
from pathlib import Path

from conformance.errors import HarnessError

OWN_ROOT = ("unshare", "--user", "--map-root-user")
"""Runs a command as root of a user namespace."""

SETTINGS = Path("/proc/sys")

SECONDS = 20

RESTRICTIONS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0", "AppArmor restricts them, as on Ubuntu from 23.10 on"),
    ("kernel/unprivileged_userns_clone", "0", "1", "this kernel allows them only to root"),
    ("user/max_user_namespaces", "0", "10000", "this kernel allows none"),
)
"""Settings below :data:`SETTINGS`: the value that forbids user namespaces, one that allows them, and the meaning."""


def refusal(*command: str) -> HarnessError | None:
    """Return the reason why this user cannot create a user namespace, with a remedy; None if it can.

    Args:
        command: creates the namespace, with its options; by default a namespace in which the user is root.
    """
    try:
        tried = subprocess.run(
            [*(command or OWN_ROOT), "true"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return HarnessError(str(error), "install the package util-linux")
    if tried.returncode == 0:
        return None
    why = tried.stderr.strip()
    for name, forbids, allows, meaning in RESTRICTIONS:
        try:
            value = (SETTINGS / name).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if value == forbids:
            setting = name.replace("/", ".")
            return HarnessError(f"{meaning} ({setting}={value}): {why}", f"sudo sysctl {setting}={allows}")
    return HarnessError(why, "allow them (user_namespaces(7)), or run it as root")
