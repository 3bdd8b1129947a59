"""One run of the matrix: everything that is got ready once, before the first question."""

import contextlib
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import docker.errors

from conformance import accel, cleanup, engine, image, labels, media, record, throwaway
from conformance.accel import HostKvm
from conformance.container import READY_SECONDS, Container, engine_errors
from conformance.contract import Contract
from conformance.engine import Engine, HostFingerprint
from conformance.errors import EngineError, HarnessError
from conformance.guest import Accel
from conformance.media import Probe
from conformance.mode import Mode
from conformance.record import Recorder

AccelChoice = Literal["auto", "kvm", "tcg"]


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run has.

    Attributes:
        id: part of every record, and of the label of everything made on the engine.
        contract: the documentation's claims.
        engine: where containers run.
        fingerprint: the engine's host.
        kvm: whether that host's KVM can be asked.
        accel: how the user wants guests to run.
        image: what is judged.
        probe: the media that guests boot from.
        host: the host as records name it.
        recorder: where verdicts go.
        ready_seconds: how long libvirt may take to answer after a container's start.
    """

    id: str
    contract: Contract
    engine: Engine
    fingerprint: HostFingerprint
    kvm: HostKvm
    accel: AccelChoice
    image: record.Image
    probe: Probe
    host: record.Host
    recorder: Recorder
    ready_seconds: float = READY_SECONDS

    def accel_in(self, container: Container) -> Accel:
        """Return how guests run in a container: under KVM wherever host and mode allow it, unless told otherwise."""
        if self.accel != "auto":
            return self.accel
        exposed = container.mode.exposes("/dev/kvm") and "/dev/kvm" not in container.absent
        return "kvm" if self.kvm.usable and exposed else "tcg"

    def verify(self, container: Container) -> None:
        """Compare a container with its mode; raises what :meth:`Container.verify` raises."""
        container.verify(
            cgroup_version=self.fingerprint.cgroup_version, apparmor="apparmor" in self.fingerprint.security
        )

    def container(self, mode: Mode, *, network: str) -> Container:
        """Return a container of the image in a mode; not started yet."""
        return Container(
            self.engine.client,
            mode,
            self.image.id,
            run=self.id,
            network=network,
            path=self.contract.image.path,
            ready_seconds=self.ready_seconds,
        )

    def close(self) -> None:
        """Remove whatever the run left on the engine; raises what :func:`cleanup.remove` raises."""
        cleanup.remove(self.engine.client, self.id)


def prepare(
    contract: Contract,
    progress: Callable[[str], None],
    *,
    tag: str | None,
    choice: AccelChoice,
    results: Path,
    host_name: str | None,
    ready_seconds: float = READY_SECONDS,
) -> Run:
    """Reach the engine, get image and media, and ask the host's KVM.

    Raises:
        HarnessError: something is missing; says what, and what to do.
    """
    progress("looking for a container engine")
    where = engine.connect()
    for gone in cleanup.sweep(where.client):
        progress(f"removed what a dead run had left: {gone}")
    run = labels.new_run()
    try:
        return _prepare(
            contract,
            progress,
            where,
            run,
            tag=tag,
            choice=choice,
            results=results,
            host_name=host_name,
            ready_seconds=ready_seconds,
        )
    except BaseException:
        # Nobody else knows the run's id yet. What cannot be removed now, the next run removes.
        with contextlib.suppress(EngineError):
            cleanup.remove(where.client, run)
        raise


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
    ready_seconds: float,
) -> Run:
    judged = _image(where, tag, run, progress)
    probe = media.probe(progress)
    progress("asking the host's KVM to boot a kernel")
    kvm = accel.ask(where.client, judged.id, probe, run)
    if choice == "kvm" and not kvm.usable:
        raise HarnessError(f"--accel kvm: {kvm.seen}", "use --accel auto or --accel tcg")
    fingerprint = where.fingerprint(judged.id, run)
    host = record.Host(
        name=host_name or _name(fingerprint),
        fingerprint=dataclasses.asdict(fingerprint)
        | {"security": ", ".join(fingerprint.security) or "none", "kvm": kvm.seen},
    )
    return Run(
        id=run,
        contract=contract,
        engine=where,
        fingerprint=fingerprint,
        kvm=kvm,
        accel=choice,
        image=judged,
        probe=probe,
        host=host,
        recorder=Recorder(results, host.name, run),
        ready_seconds=ready_seconds,
    )


def _image(where: Engine, tag: str | None, run: str, progress: Callable[[str], None]) -> record.Image:
    """Build our image, or take the user's as it is."""
    info = image.find(where, tag) if tag else image.ensure_image(where, progress)
    if info is None:
        raise HarnessError(f"the engine has no image {tag!r}", f"docker pull {tag}, or build it, and run again")
    progress(f"asking {info.tag} for its versions")
    output = ""
    # An image without a shell has no version to tell; what it does as a container is the verdict's.
    with engine_errors(), contextlib.suppress(docker.errors.APIError):
        output = throwaway.output(
            where.client,
            info.id,
            ["sh", "-c", "libvirtd --version; qemu-system-x86_64 --version"],
            run=run,
            network_mode="none",
        )
    versions = dict(re.findall(r"(libvirt|QEMU)\D*([\d.]+)", output))
    return record.Image(tag=info.tag, id=info.id, base=info.base, versions=versions)


def _name(fingerprint: HostFingerprint) -> str:
    """Name a host by what changes verdicts: engine, cgroup version, security module."""
    version = re.match(r"(\w+) (\d+\.\d+)", fingerprint.engine)
    parts = [
        "-".join(version.groups()) if version else fingerprint.engine,
        f"cgroup{fingerprint.cgroup_version}",
        *(module for module in fingerprint.security if module in ("apparmor", "selinux", "rootless")),
    ]
    return "-".join(parts).replace(" ", "-")
