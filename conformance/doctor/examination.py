"""What this machine can and cannot be asked, why, and what to change: in seconds, and nothing is built for it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from conformance.doctor import diagnosis, survey
from conformance.doctor.finding import Inspection, Report
from conformance.doctor.survey import Survey
from conformance.engine import image, labels, local_daemon
from conformance.engine.client import Engine, connect
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.docker_context import address
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError
from conformance.host import kvm as accel
from conformance.media import probe as probe_media
from conformance.model.contract import Contract

KERNEL_SECONDS = 20
"""For a kernel's first words under KVM; it says them within one, or within five where that KVM is itself emulated."""


def examine(contract: Contract, progress: Callable[[str], None]) -> Report:
    """Look at engine and machine; starts containers only of an image that the engine has already.

    Raises:
        EngineError: the engine refused what any engine does, or went away meanwhile.
    """
    run = labels.new_run()
    progress("looking for a container engine")
    engine, refusal = _engine()
    found = next(filter(None, (image.find(engine, tag) for tag in image.KNOWN)), None) if engine else None
    progress("looking at its machine")
    seen = _survey(engine, refusal, found, run)
    progress("asking its KVM to boot a kernel")
    kvm = _boot(engine, found, run) if seen and seen.devices.get("/dev/kvm") == "opens" else None
    progress("looking at what is installed")
    return Report(diagnosis.all_of(Inspection(contract, engine, refusal, found, seen, kvm)))


def _engine() -> tuple[Engine | None, EngineError | None]:
    """Return the engine that a run would find running, or why there is none."""
    try:
        return connect(), None
    except NoEngineError as error:
        private = None if address()[1] else local_daemon.running()
        return (connect(private), None) if private else (None, error)
    except EngineError as error:
        return None, error


def _survey(
    engine: Engine | None, refusal: EngineError | None, found: image.ImageInfo | None, run: str
) -> Survey | None:
    if engine and found:
        return survey.through(HostShell(engine.client, found.id, run))
    here = engine.local if engine else isinstance(refusal, NoEngineError) and not address()[1]
    return survey.here() if here else None


def _boot(engine: Engine | None, found: image.ImageInfo | None, run: str) -> accel.HostKvm | None:
    """Boot a kernel under bare KVM with what is there already; None where too little is."""
    probe = probe_media.cached()
    if engine and found and found.tag == image.TAG and probe:
        asking = accel.KvmProbe(HostShell(engine.client, found.id, run), probe)
        asking.begin()
        try:
            return asking.answer()
        finally:
            asking.withdraw()
    kernels = [probe.kernel] if probe else sorted(Path("/boot").glob("vmlinuz-*"))
    readable = [kernel for kernel in kernels if os.access(kernel, os.R_OK)]
    opens = os.access("/dev/kvm", os.R_OK | os.W_OK) and (engine is None or engine.local)
    if not opens or not readable or not shutil.which(accel.QEMU):
        return None
    return accel.boot_here(readable[-1], seconds=KERNEL_SECONDS)
