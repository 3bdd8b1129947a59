"""The engine that a command uses."""

import contextlib
from collections.abc import Iterator

from conformance.engine import local_daemon
from conformance.lab import definition, machine, qemu_command, startup
from conformance.run.context import OUTER
from conformance.util.progress import Progress
from conformance.workers.hosts import EngineTarget


@contextlib.contextmanager
def engine_target(host: definition.Host | None) -> Iterator[EngineTarget]:
    """Provide an engine: the lab's, else the one that answers, else a private one until the context ends.

    Raises:
        LabError: the lab broke meanwhile; the error has its console.
        EngineError: no engine answers, and none can be started.
    """
    if host is None:
        with _cleared() as progress, local_daemon.engine(progress) as address:
            progress.clear()
            yield EngineTarget(address)
        return
    with _cleared() as progress, startup.engine(host, progress) as (lab, tunnel):
        progress.clear()
        yield EngineTarget(f"unix://{tunnel.socket}", f"lab-{host.name}", {OUTER: lab.accel}, _lab_options())
        lab.check()


@contextlib.contextmanager
def _cleared() -> Iterator[Progress]:
    """Yield progress that leaves the terminal's last line to the caller."""
    progress = Progress()
    try:
        yield progress
    finally:
        progress.clear()


def _lab_options() -> tuple[str, ...]:
    """Return the pytest options that fit every lab."""
    pci_pool = (f"--libvirt-pci-device={address}" for address in qemu_command.SPARE)
    return (
        f"--libvirt-macvtap-link={qemu_command.BEYOND}",
        *pci_pool,
        f"--libvirt-ready-seconds={machine.READY_SECONDS}",
    )
