"""Labels by which a run's things on an engine are found again, and run ids."""

import calendar
import hashlib
import os
import platform
import time
from pathlib import Path

import psutil

RUN = "org.libvirt-conformance.run"
"""On every container, network, volume and layer over an image: the id of the run that made it."""

HOST_BEFORE = "org.libvirt-conformance.host-before"
"""On an empty volume: the state of the host's network before the run's containers there."""

PROFILE = "org.libvirt-conformance.apparmor-profile"
"""On an empty volume: name of an AppArmor profile that the run loaded into the host's kernel."""

DELEGATION = "org.libvirt-conformance.delegation"
"""On an empty volume: the host's mount options of cgroup2 before the run's containers."""

PCI_DEVICE = "org.libvirt-conformance.pci-device"
"""On an empty volume: address, driver and boot of a PCI device that the run bound to vfio-pci."""

IMAGE = "org.libvirt-conformance.image"
"""On each such volume: the image with the tools that restore the state."""


TIME = "%Y%m%dT%H%M%SZ"

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Read by hand, as MACHINE_ID is: psutil knows neither."""

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
            return start >= psutil.boot_time()
        return psutil.Process(int(pid)).create_time() <= start + CLOCK_STEP_SECONDS
    except psutil.NoSuchProcess:
        return False
    except ValueError:
        return True  # not an id of this project: not to be touched


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
