"""What a lab costs: its starts, its disk, its memory, and the processor while nobody uses it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from conformance.engine.client import connect
from conformance.engine.ssh_tunnel import Tunnel
from conformance.lab import startup
from conformance.lab.definition import Host
from conformance.lab.machine import Machine
from conformance.util import paths, process

Progress = Callable[[str], None]

SETTLE_SECONDS = 10
"""For what a start leaves to be done."""

IDLE_SECONDS = 20
"""For how long an idle lab is watched."""


@dataclass
class Cost:
    """What was measured.

    Attributes:
        accel: how the lab ran, as records say it.
        starts: each in seconds, from the order to an engine that answers; everything was made before.
        cold: the same, in seconds, without a saved state.
        idle: share of one processor that its QEMU takes while nobody uses it, in percent.
        disk: what the host keeps in the cache, its QEMU included and downloads not, in GB.
        memory: the most that its QEMU ever had resident, after its use, in GB.
    """

    accel: str
    starts: list[float] = field(default_factory=list)
    cold: float = 0
    idle: float = 0
    disk: float = 0
    memory: float = 0


def measure(host: Host, progress: Progress, *, repeat: int, use: Callable[[str], object]) -> Cost:
    """Start labs of a host, use the last one, and end them all.

    Args:
        host: which.
        progress: told what is being measured.
        repeat: how often to start one from what is kept.
        use: given the address of the lab's engine; what it does there decides the memory.

    Raises:
        HarnessError: a lab cannot be made or started, or what ``use`` raises.
    """
    progress(f"lab {host.name}: making what is not there yet")
    startup.start(host, progress).stop()
    with _started(host, progress, saved=False) as (lab, _, seconds):
        cost = Cost(lab.accel, cold=seconds)
    for number in range(repeat):
        progress(f"lab {host.name}: start {number + 1} of {repeat}")
        with _started(host, progress, saved=True) as (lab, tunnel, seconds):
            cost.starts.append(seconds)
            if number == repeat - 1:
                progress(f"lab {host.name}: watching it idle for {IDLE_SECONDS} s")
                time.sleep(SETTLE_SECONDS)
                cost.idle = idle(lab.pid, IDLE_SECONDS)
                progress(f"lab {host.name}: using it")
                use(f"unix://{tunnel.socket}")
                lab.check()  # of one that broke meanwhile nothing is worth measuring
                cost.memory = memory(lab.pid)
                cost.disk = allocated(_kept(lab))
    return cost


@contextlib.contextmanager
def _started(host: Host, progress: Progress, *, saved: bool) -> Iterator[tuple[Machine, Tunnel, float]]:
    """Have a lab, a way to its engine, and how long that took, in seconds."""
    began = time.monotonic()
    lab = startup.start(host, progress, saved=saved)
    try:
        tunnel = lab.tunnel()
        try:
            connect(f"unix://{tunnel.socket}")
            yield lab, tunnel, round(time.monotonic() - began, 2)
        finally:
            tunnel.close()
    finally:
        lab.stop()


def idle(pid: int, seconds: float) -> float:
    """Return the share of one processor that a process takes, in percent, watched for so long."""
    return psutil.Process(pid).cpu_percent(seconds)


def memory(pid: int) -> float:
    """Return the most memory that a process ever had resident, in GB; raises LabError if it has ended."""
    return round(process.peak_memory(pid) / 1e9, 2)


def _kept(lab: Machine) -> list[Path]:
    """Return the folders of the cache that hold what a lab is started from."""
    program = Path(psutil.Process(lab.pid).exe())
    own = paths.cache().resolve() in program.parents  # else it is the system's
    return [lab.disk.folder, *([program.parent] if own else [])]


def allocated(folders: list[Path]) -> float:
    """Return what folders take on the disk, in GB; holes in files take nothing."""
    files = {file.stat().st_ino: file.stat() for folder in folders for file in folder.rglob("*") if file.is_file()}
    return round(sum(file.st_blocks * 512 for file in files.values()) / 1e9, 2)
