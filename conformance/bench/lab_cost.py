"""Cost of a lab: its starts, its disk, its memory, and its processor time while idle."""

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
"""Pause for the end of a start's work."""

IDLE_SECONDS = 20
"""Duration of the measurement of an idle lab."""


@dataclass
class Cost:
    """The measurements.

    Attributes:
        accel: the lab's accelerator, as in records.
        starts: the duration of each start until its engine answers, in seconds; everything was built before.
        cold: the same without a saved state, in seconds.
        idle: processor time of its QEMU while idle, in percent of one processor.
        disk: size of the host's files in the cache, QEMU included and downloads not, in GB.
        memory: peak resident memory of its QEMU after its use, in GB.
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
        host: the definition.
        progress: gets each measurement.
        repeat: the number of starts.
        use: uses the lab's engine at an address, before the memory is measured.

    Raises:
        HarnessError: a lab cannot be made or started, or what ``use`` raises.
    """
    progress(f"lab {host.name}: building missing parts")
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
                lab.check()  # a broken lab is not measured
                cost.memory = memory(lab.pid)
                cost.disk = allocated(_kept(lab))
    return cost


@contextlib.contextmanager
def _started(host: Host, progress: Progress, *, saved: bool) -> Iterator[tuple[Machine, Tunnel, float]]:
    """Yield a lab, a tunnel to its engine, and the duration of the start in seconds."""
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
    """Return the processor time of a process in the next ``seconds``, in percent of one processor."""
    return psutil.Process(pid).cpu_percent(seconds)


def memory(pid: int) -> float:
    """Return the most memory that a process ever had resident, in GB; raises LabError if it has ended."""
    return round(process.peak_memory(pid) / 1e9, 2)


def _kept(lab: Machine) -> list[Path]:
    """Return the folders of the cache with a lab's files."""
    program = Path(psutil.Process(lab.pid).exe())
    own = paths.cache().resolve() in program.parents  # else QEMU is a system package
    return [lab.disk.folder, *([program.parent] if own else [])]


def allocated(folders: list[Path]) -> float:
    """Return the disk space of folders, in GB, without holes in files."""
    files = {file.stat().st_ino: file.stat() for folder in folders for file in folder.rglob("*") if file.is_file()}
    return round(sum(file.st_blocks * 512 for file in files.values()) / 1e9, 2)
