"""The examination of a machine: quick, and without building or installing anything."""

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
from conformance.model import mode
from conformance.model.contract import Contract

KERNEL_SECONDS = 20
"""Limit for a kernel's first output under KVM; it takes one second, or five where KVM itself is emulated."""


def examine(contract: Contract, progress: Callable[[str], None]) -> Report:
    """Examine the engine and its machine; starts containers only from an image that the engine already has.

    Raises:
        EngineError: the engine refused an ordinary request, or went away.
    """
    run = labels.new_run()
    progress("looking for a container engine")
    engine, refusal = _engine()
    found = next(filter(None, (image.find(engine, tag) for tag in image.KNOWN)), None) if engine else None
    progress("examining the engine's machine")
    seen = _survey(engine, found, run)
    progress("booting a kernel under KVM")
    kvm = _boot(engine, found, run) if seen and seen.devices.get("/dev/kvm") == "opens" else None
    progress("checking installed packages")
    inspection = Inspection(contract, engine, refusal, found, seen, kvm)
    usable = _kvm_is_usable(inspection)
    return Report(
        diagnosis.all_of(inspection),
        contract.recommendation(" ".join(inspection.security)),
        tuple(mode.for_host(contract, claims.id, kvm=usable) for claims in contract.modes),
        found.tag if found else "",
        private=_is_private(engine, refusal),
    )


def _kvm_is_usable(inspection: Inspection) -> bool:
    """Return whether /dev/kvm exists and boots a kernel, as far as that could be examined."""
    absent = inspection.survey is not None and inspection.survey.devices.get("/dev/kvm") == "absent"
    return not absent and (inspection.kvm is None or inspection.kvm.usable)


def _engine() -> tuple[Engine | None, EngineError | None]:
    """Return the running engine that a run would use, or the reason why there is none."""
    try:
        return connect(), None
    except NoEngineError as error:
        private = None if address()[1] else local_daemon.running()
        return (connect(private), None) if private else (None, error)
    except EngineError as error:
        return None, error


def _is_private(engine: Engine | None, refusal: EngineError | None) -> bool:
    """Return whether a run would use a private engine, which runs already or would be started."""
    if engine:
        return engine.host != address()[0]
    return isinstance(refusal, NoEngineError) and not address()[1]


def _survey(engine: Engine | None, found: image.ImageInfo | None, run: str) -> Survey | None:
    if engine and found:
        return survey.through(HostShell(engine.client, found.id, run))
    return survey.here() if (engine.local if engine else _names_this_machine()) else None


def _names_this_machine() -> bool:
    """Return whether the engine's address is a socket of this machine, whether it can be opened or not."""
    try:
        return address()[0].startswith("unix:")
    except EngineError:
        return False


def _boot(engine: Engine | None, found: image.ImageInfo | None, run: str) -> accel.HostKvm | None:
    """Boot a kernel under bare KVM with the kernel and QEMU that are there; None if one is missing."""
    probe = probe_media.cached()
    if engine and found and found.tag == image.TAG and probe:
        asking = accel.KvmProbe(HostShell(engine.client, found.id, run), probe)
        asking.start()
        try:
            return asking.result()
        finally:
            asking.cancel()
    kernels = [probe.kernel] if probe else sorted(Path("/boot").glob("vmlinuz-*"))
    readable = [kernel for kernel in kernels if os.access(kernel, os.R_OK)]
    opens = os.access("/dev/kvm", os.R_OK | os.W_OK) and (engine is None or engine.local)
    if not opens or not readable or not shutil.which(accel.QEMU):
        return None
    return accel.boot_here(readable[-1], seconds=KERNEL_SECONDS)
