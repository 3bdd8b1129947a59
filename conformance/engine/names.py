"""Names of a run's containers, networks, volumes and layers: ``conformance-RUN-PURPOSE``."""

import re
import secrets
import threading

DNS_LABEL = 63
"""Longest label of a DNS name (RFC 1035): engines resolve the names of containers on networks of their users."""

VOLUME = 255
"""Longest name of a volume, which is a folder's name."""

ABBREVIATION = 4
"""Letters that stay of all words but the last where a purpose is too long: ``unpr-hostnet``."""

_lock = threading.Lock()
_used: set[str] = set()


def fixed(run: str, purpose: str) -> str:
    """Return the name of a thing that a run has once."""
    return f"conformance-{run.lower()}-{purpose}"


def new(run: str, purpose: str, *, longest: int = DNS_LABEL) -> str:
    """Return a name that this process has not used yet; a second thing of the same purpose gets a number.

    Args:
        run: the run's id. Each process has a run of its own, so that names of two processes differ.
        purpose: such as a mode's id.
        longest: maximum length; a longer purpose is abbreviated.
    """
    purpose = re.sub(r"[^a-z0-9_.-]+", "-", purpose.lower()).strip("-")
    with _lock:
        number, name = 1, ""
        while not name or name in _used:
            suffix = f"-{number}" if number > 1 else ""
            name = fixed(run, f"{_fitting(purpose, longest - len(fixed(run, suffix)))}{suffix}")
            number += 1
        _used.add(name)
    return name


def shell(run: str) -> str:
    """Return a name for a container of one script.

    It is random at its end: several processes at once may clean up after the same killed run.
    """
    return fixed(run, f"shell-{secrets.token_hex(3)}")


def _fitting(purpose: str, room: int) -> str:
    if len(purpose) <= room:
        return purpose
    *first, last = purpose.split("-")
    return "-".join([*(word[:ABBREVIATION] for word in first), last])[:room].rstrip("-")
