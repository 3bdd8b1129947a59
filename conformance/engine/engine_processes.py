"""Processes of container engines on this machine."""

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil


def processes() -> dict[int, list[str]]:
    """Return the command lines of all processes that have one; zombies and kernel threads have none."""
    found = {process.pid: process.info["cmdline"] for process in psutil.process_iter(["cmdline"])}
    return {pid: command for pid, command in found.items() if command and command[0]}


def other_engines(*, everywhere: bool = False) -> dict[int, list[str]]:
    """Return the Docker engines in this network namespace, where engines share firewall chains, or on the machine."""
    found: dict[int, list[str]] = {}
    for pid, command in processes().items():
        if Path(command[0]).name == "dockerd":
            with contextlib.suppress(OSError):  # ended meanwhile; psutil does not read namespaces
                if everywhere or Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"):
                    found[pid] = command
    return found


def kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def with_descendants(pids: Sequence[int]) -> list[int]:
    """Return processes, their children, and the children's children."""
    found = list(pids)
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return list(dict.fromkeys(found))
