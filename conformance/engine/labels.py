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

PCI_DEVICE = "org.libvirt-conformance.pci-device"
"""On a volume that holds nothing: address, driver and boot of a PCI device that the run took from the host's driver."""

IMAGE = "org.libvirt-conformance.image"
"""On each such volume: the image that can give back what it remembers."""


TIME = "%Y%m%dT%H%M%SZ"

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

DIGITS = 6
"""Of a machine's name in a run's id, and as many of its boot's."""

CLOCK_STEP_SECONDS = 3600
"""So much a clock may be set while a run goes on, without the run being taken for dead."""


def new_run() -> str:
    """Return an id for this process's run: it sorts by time, and names the machine, its boot and the process."""
    return f"{time.strftime(TIME, time.gmtime())}-{_machine()}{_boot()}-{os.getpid()}"


def made_here(run: str) -> bool:
    """Say whether a run was started on this machine; another one's processes cannot be seen."""
    return _maker(run)[:DIGITS] == _machine()


def alive(run: str) -> bool:
    """Say whether the process of a run of this machine is still there; a later one may have got its number."""
    began, pid = run.partition("-")[0], run.rpartition("-")[2]
    if not pid.isdigit():
        return False
    try:
        start = calendar.timegm(time.strptime(began, TIME))
        if _maker(run)[DIGITS:] != _boot():
            # An earlier boot's processes are gone. What began after this boot is a clone's, with the same machine-id.
            return start >= _booted()
        return _started(pid) <= start + CLOCK_STEP_SECONDS
    except OSError:
        return False  # there is no such process
    except ValueError:
        return True  # not an id of this project: not to be touched


def _started(pid: str) -> float:
    """Return when a process started, in seconds since the epoch (proc(5): /proc/PID/stat)."""
    ticks = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[19])
    return _booted() + ticks / os.sysconf("SC_CLK_TCK")


def _booted() -> int:
    """Return when the machine booted, in seconds since the epoch (proc(5): /proc/stat)."""
    return int(
        next(line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    )


def _maker(run: str) -> str:
    """Return the part of a run's id that names the machine and its boot."""
    return "".join(run.split("-")[1:2])


def _machine() -> str:
    """Return what tells machines apart: machine-id(5), or the host name where there is none, as in containers."""
    return _digest(_read(MACHINE_ID) or platform.node())


def _boot() -> str:
    """Return what tells boots apart (random(4)): of one machine, and of clones with the same machine-id."""
    return _digest(_read(BOOT_ID))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
