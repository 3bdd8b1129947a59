"""The label by which everything that a run makes on an engine is found again, and the run's id in it."""

import calendar
import hashlib
import os
import platform
import time
from pathlib import Path

RUN = "org.libvirt-conformance.run"
"""On every container, network, volume and layer over an image: the id of the run that made it."""

HOST_BEFORE = "org.libvirt-conformance.host-before"
"""On a volume that holds nothing: the state of the host's network before the run put a container into it."""

PROFILE = "org.libvirt-conformance.apparmor-profile"
"""On a volume that holds nothing: name of an AppArmor profile that the run gave to the host's kernel."""

DELEGATION = "org.libvirt-conformance.delegation"
"""On a volume that holds nothing: the options of the host's control groups before the run's containers."""

IMAGE = "org.libvirt-conformance.image"
"""On each such volume: the image that can give back what it remembers."""


TIME = "%Y%m%dT%H%M%SZ"

CLOCK_STEP_SECONDS = 3600
"""So much a clock may be set while a run goes on, without the run being taken for dead."""


def new_run() -> str:
    """Return an id for this process's run: it sorts by time, and says which machine and process made it."""
    return f"{time.strftime(TIME, time.gmtime())}-{_machine()}-{os.getpid()}"


def made_here(run: str) -> bool:
    """Say whether a run was started on this machine; another one's processes cannot be seen."""
    return run.split("-")[1:2] == [_machine()]


def alive(run: str) -> bool:
    """Say whether the process of a run of this machine is still there; a later one may have got its number."""
    began, pid = run.partition("-")[0], run.rpartition("-")[2]
    if not pid.isdigit():
        return False
    try:
        started = _started(pid)
        return started <= calendar.timegm(time.strptime(began, TIME)) + CLOCK_STEP_SECONDS
    except OSError:
        return False  # there is no such process
    except ValueError:
        return True  # not an id of ours: left alone


def _started(pid: str) -> float:
    """Return when a process started, in seconds since the epoch (proc(5): /proc/stat, /proc/PID/stat)."""
    ticks = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(boot) + ticks / os.sysconf("SC_CLK_TCK")


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]
