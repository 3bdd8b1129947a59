"""The engine that a command uses."""

import contextlib
from collections.abc import Iterator

from conformance.engine import local_daemon
from conformance.lab import definition, machine
from conformance.run.context import OUTER
from conformance.util.progress import Progress
from conformance.workers.hosts import EngineTarget


@contextlib.contextmanager
def engine_target(host: definition.Host | None) -> Iterator[EngineTarget]:
    """Have an engine for as long as this lasts: a lab's, the one that answers, or a private one.

    Raises:
        LabError: the lab broke meanwhile; its console is beside it.
        EngineError: there is none, and none can be started.
    """
    if host is None:
        with local_daemon.engine(Progress()) as address:
            yield EngineTarget(address)
        return
    with machine.engine(host, Progress()) as (lab, tunnel):
        yield EngineTarget(f"unix://{tunnel.socket}", f"lab-{host.name}", {OUTER: lab.accel}, _lab_options())
        lab.check()


def _lab_options() -> tuple[str, ...]:
    """Return the options that fit any lab."""
    pci_pool = (f"--libvirt-pci-device={address}" for address in machine.SPARE)
    return f"--libvirt-macvtap-link={machine.BEYOND}", *pci_pool, f"--libvirt-ready-seconds={machine.READY_SECONDS}"
