"""Labels by which everything that a run makes on an engine is found again."""

import os
import secrets
import time

RUN = "org.libvirt-conformance.run"
"""On every container, network and volume: the id of the run that made it."""


def new_run() -> str:
    """Return an id for a run: its start in UTC and its process, so that a listing sorts by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}-{secrets.token_hex(2)}"
