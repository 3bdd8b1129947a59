"""One run at a time in the host's network.

Containers there share the host's links, addresses and firewall, so that two of the image would conflict over virbr0
and 192.168.122.0/24, and each would take the other's leftovers for its own.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.engine import client
from conformance.errors import HarnessError
from conformance.util.wait import DeadlineExpired, wait_for

ADDRESS = "\0libvirt-conformance-host-network"
"""An abstract socket: it belongs to the network namespace that it protects, and ends with its process."""

SECONDS = 480
"""As long as a matrix in one mode may take under emulation, and less than pytest's deadline of one test."""


def address(info: Mapping[str, Any]) -> str:
    """Return the address of the lock for the network of an engine's host.

    All engines of this machine, however they are reached, have one host; one elsewhere has its own.

    Args:
        info: the engine's description of itself (``GET /info``).
    """
    return ADDRESS if client.is_here(info) else f"{ADDRESS}-{info.get('ID', '')}"


class HostBusy(HarnessError):
    """Another run is in the host's network."""


@contextlib.contextmanager
def held(progress: Callable[[str], None], *, seconds: float = SECONDS, address: str = ADDRESS) -> Iterator[None]:
    """Hold the lock on the host's network among the runs of this machine.

    Args:
        progress: receives the name of the run that holds the lock.
        seconds: deadline of the wait.
        address: the lock's.

    Raises:
        HostBusy: another run still has it at the deadline.
    """
    with socket.socket(socket.AF_UNIX) as lock:
        if not _taken(lock, address):
            holder = _holder(address)
            progress(f"waiting for {holder} to leave the host's network")
            try:
                wait_for("the host's network", lambda: _taken(lock, address), seconds=seconds, seen=lambda: holder)
            except DeadlineExpired as error:
                raise HostBusy(
                    f"{holder} is still in the host's network after {seconds:g} s",
                    "run again when that run has ended, or choose other modes with --mode",
                ) from error
        lock.listen(1)
        yield


def _taken(lock: socket.socket, address: str) -> bool:
    try:
        lock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _holder(address: str) -> str:
    """Name the run that holds the lock; the kernel knows the process that listens."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        try:
            asking.connect(address)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:  # it has just left, or too many ask
            return "another run"
    return f"another run (process {struct.unpack('3i', credentials)[0]})"
