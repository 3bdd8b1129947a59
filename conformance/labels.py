"""The label by which everything that a run makes on an engine is found again, and the run's id in it."""

import hashlib
import os
import platform
import time
from pathlib import Path

RUN = "org.libvirt-conformance.run"
"""On every container, network and volume: the id of the run that made it."""


def new_run() -> str:
    """Return an id for this process's run: it sorts by time, and says which machine and process made it."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{_machine()}-{os.getpid()}"


def made_here(run: str) -> bool:
    """Say whether a run was started on this machine; another one's processes cannot be seen."""
    return run.split("-")[1:2] == [_machine()]


def alive(run: str) -> bool:
    """Say whether the process of a run of this machine is still there."""
    pid = run.rpartition("-")[2]
    return pid.isdigit() and Path("/proc", pid).exists()


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]
