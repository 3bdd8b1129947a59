"""Preparation of a run: engine, leftovers of killed runs, image, media, and the test of the host's KVM."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance.container.container import READY_SECONDS
from conformance.engine import client as engine
from conformance.engine import image, labels
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.errors import BadOption, EngineError, EngineGone, HarnessError
from conformance.host import lsm_denials
from conformance.host.kvm import KvmProbe
from conformance.media import probe as probe_media
from conformance.model import record
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Recorder
from conformance.run import cleanup
from conformance.run.context import AccelChoice, Run
from conformance.util import files, logs, paths
from conformance.util.progress import Progress

VERSIONS = "libvirtd --version || virtqemud --version; qemu-system-x86_64 --version"


OTHER_RESULTS = "name another folder with --results"
"""The remedy where records cannot be written."""


def prepare(
    contract: Contract,
    progress: Progress,
    *,
    tag: str | None,
    choice: AccelChoice,
    results: Path | None,
    host_name: str | None,
    host_facts: Mapping[str, str] = MappingProxyType({}),
    ready_seconds: float = READY_SECONDS,
    pci_devices: Sequence[str] = (),
    minimise_boots: bool = False,
    address: str | None = None,
    recorded_as: str | None = None,
) -> Run:
    """Connect to the engine (the user's by default), prepare image and media, and start the test of the host's KVM.

    Records name the run by its id, or by ``recorded_as`` where it is part of a larger one. They go to the folder
    ``results``, or to that run's own.

    Raises:
        HarnessError: something is missing.
    """
    if host_name is not None and not re.fullmatch(record.HOST_NAME, host_name):
        raise BadOption(
            f"invalid --host-name {host_name!r}: it becomes part of a file name",
            "use letters, digits, '.', '_' and '-' only",
        )
    files.require_writable(results or paths.ARTEFACTS, OTHER_RESULTS)
    progress("looking for a container engine")
    where = engine.connect(address)
    for gone in cleanup.sweep(where.client):
        progress.line(f"removed a leftover of a killed run: {gone}")
    run = labels.new_run()
    if recorded_as:
        logs.write_to(recorded_as, worker=run)
    else:
        logs.write_to(run)
    with contextlib.ExitStack() as undo:
        undo.callback(_remove, where, run)  # nobody else knows the run's id yet
        ready = _prepare(
            contract,
            progress,
            where,
            run,
            tag=tag,
            choice=choice,
            results=results or paths.run_folder(recorded_as or run),
            host_name=host_name,
            host_facts=host_facts,
            ready_seconds=ready_seconds,
            pci_devices=pci_devices,
            minimise_boots=minimise_boots,
            recorded_as=recorded_as or run,
        )
        undo.callback(ready.kvm_probe.cancel)
        if ready.disposable and "apparmor" in ready.fingerprint.security:
            lsm_denials.log_all(ready.shell)
        progress("testing the host's KVM with a kernel")
        ready.kvm_probe.start()
        if choice == "kvm" and not ready.kvm.usable:
            raise HarnessError(f"--accel kvm is not possible: {ready.kvm.seen}", "use --accel auto or --accel tcg")
        undo.pop_all()
    return ready


@contextlib.contextmanager
def unrecorded(
    contract: Contract,
    progress: Progress,
    *,
    tag: str | None,
    host_name: str | None,
    host_facts: Mapping[str, str],
    ready_seconds: float,
    minimise_boots: bool = False,
    pci_devices: Sequence[str] = (),
) -> Iterator[Run]:
    """Prepare a run without records for the length of a block; raises as :func:`prepare`."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        prepared = prepare(
            contract,
            progress,
            tag=tag,
            choice="auto",
            results=Path(scratch),
            host_name=host_name,
            host_facts=host_facts,
            ready_seconds=ready_seconds,
            pci_devices=pci_devices,
            minimise_boots=minimise_boots,
        )
        with contextlib.closing(prepared):
            yield prepared


def _remove(where: Engine, run: str) -> None:
    """Remove a run's things; the next run removes the rest."""
    with contextlib.suppress(EngineError):
        cleanup.remove(where.client, run)


def _prepare(
    contract: Contract,
    progress: Callable[[str], None],
    where: Engine,
    run: str,
    *,
    tag: str | None,
    choice: AccelChoice,
    results: Path,
    host_name: str | None,
    host_facts: Mapping[str, str],
    ready_seconds: float,
    pci_devices: Sequence[str],
    minimise_boots: bool,
    recorded_as: str,
) -> Run:
    judged = _image(where, tag, run, progress)
    probe = probe_media.ensure(progress)
    shell = HostShell(where.client, judged.id, run)
    fingerprint = where.fingerprint(shell)
    name = host_name or named(fingerprint)
    return Run(
        id=run,
        contract=contract,
        engine=where,
        fingerprint=fingerprint,
        kvm_probe=KvmProbe(shell, probe),
        accel=choice,
        image=judged,
        probe=probe,
        host_name=name,
        host_facts=host_facts,
        recorder=Recorder(results, name, recorded_as),
        ready_seconds=ready_seconds,
        pci_devices=pci_devices,
        minimise_boots=minimise_boots,
    )


def _image(where: Engine, tag: str | None, run: str, progress: Callable[[str], None]) -> record.Image:
    """Build our image, or take the user's as it is."""
    info = image.require(where, tag) if tag else image.ensure_image(where, progress)
    progress(f"reading the versions of {info.tag}")
    try:
        output = HostShell(where.client, info.id, run).run(VERSIONS)
    except EngineGone:
        raise
    except EngineError:
        output = ""  # an image without a shell shows no versions; its checks show how it works as a container
    versions = dict(re.findall(r"(libvirt|QEMU)\D*([\d.]+)", output))
    return record.Image(tag=info.tag, id=info.id, base=info.base, versions=versions, source=info.source)


def named(fingerprint: HostFingerprint) -> str:
    """Name a host by what changes verdicts: engine, cgroup version, security module."""
    version = re.match(r"(\w+) (\d+\.\d+)", fingerprint.engine)
    parts = [
        "-".join(version.groups()) if version else fingerprint.engine,
        f"cgroup{fingerprint.cgroup_version}",
        *(module for module in fingerprint.security if module in ("apparmor", "selinux", "rootless")),
    ]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))
