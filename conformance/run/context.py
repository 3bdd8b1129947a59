"""One run of the matrix: its preparation, and everything that its checks share."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

from conformance.container import effective_state
from conformance.container.container import READY_SECONDS, Container
from conformance.engine.api_errors import engine_errors
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.engine.port_relay import Relay
from conformance.errors import EngineError, Unsupported
from conformance.guests.peer_network import PeerNetwork, peer_image
from conformance.guests.spec import Accel
from conformance.host import apparmor, char_devices, lsm_denials
from conformance.host.cgroup_options import CgroupOptions
from conformance.host.kvm import HostKvm, KvmProbe
from conformance.host.pci import PciPool
from conformance.lab.emulator import EMULATION
from conformance.media.probe import Probe
from conformance.model import mode as modes
from conformance.model import record
from conformance.model.contract import Contract
from conformance.model.exposure import UNCONFINED
from conformance.model.fingerprint import HostFingerprint
from conformance.model.mode import Mode
from conformance.model.record import Recorder
from conformance.run import cleanup, limits

OUTER = "outer"
"""The fact of a host that it has only as a lab: how the virtual machine itself runs."""

EMULATED_TWICE = "the guest starts, but its boot is not awaited: without KVM an emulated machine would emulate it"

MINIMAL_HEALTH_SECONDS = 3600.0
"""Seconds between two runs of the image's health check by the engine in a run that minimises boots. Each starts a
program in the container, which takes an emulated host two to six of every twelve seconds (measured on debian-12)."""

AccelChoice = Literal["auto", "kvm", "tcg"]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: engine, image, media, and the state that its checks share.

    Attributes:
        id: part of the label of everything made on the engine.
        contract: the documentation's claims.
        engine: where containers run.
        fingerprint: the engine's host.
        kvm_probe: the test of that host's KVM, which runs while the first container starts.
        accel: how the user wants guests to run.
        image: what is judged.
        probe: the media that guests boot from.
        host_name: the host as records name it.
        host_facts: facts for records beyond the engine's own description.
        recorder: where verdicts go, and what they call the run.
        ready_seconds: how long libvirt may take to answer after a container's start.
        minimise_boots: one boot serves as many features as possible, whose failures are tested one by one later, and
            the engine hardly ever runs the image's health check.
        warnings: by a mode's id, warnings of the image's start-up about steps that the mode does not allow.
        pci_devices: addresses of the host's PCI devices that guests may use.
    """

    id: str
    contract: Contract
    engine: Engine
    fingerprint: HostFingerprint
    kvm_probe: KvmProbe
    accel: AccelChoice
    image: record.Image
    probe: Probe
    host_name: str
    recorder: Recorder
    ready_seconds: float = READY_SECONDS
    host_facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    minimise_boots: bool = False
    warnings: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    pci_devices: Sequence[str] = ()

    @property
    def kvm(self) -> HostKvm:
        """Return the state of the host's KVM; raises as :meth:`KvmProbe.result`."""
        return self.kvm_probe.result()

    @property
    def host(self) -> record.Host:
        """Return the host as records describe it."""
        try:
            kvm = self.kvm.seen
        except EngineError as error:
            kvm = f"not tested: {error.message}"  # no verdict is lost; checks that need KVM fail with this error
        security = ", ".join(self.fingerprint.security) or "none"
        return record.Host(
            name=self.host_name,
            fingerprint=dataclasses.asdict(self.fingerprint) | {"security": security, "kvm": kvm, **self.host_facts},
        )

    @property
    def disposable(self) -> bool:
        """Return whether the engine's host is a lab, a disposable virtual machine."""
        return OUTER in self.host_facts

    @property
    def emulated(self) -> bool:
        """Return whether the engine's host is emulated itself."""
        return self.host_facts.get(OUTER, "").startswith(EMULATION)

    def accel_in(self, container: Container) -> Accel:
        """Return how guests run in a container: under KVM where host and mode allow it, unless --accel decides."""
        if self.accel != "auto":
            return self.accel
        exposed = container.mode.exposes("/dev/kvm") and "/dev/kvm" not in container.absent
        return "kvm" if exposed and self.kvm.usable else "tcg"

    def unbootable_reason_in(self, container: Container) -> str:
        """Return why no check waits for a container's guests: on an emulated machine, emulated guests boot for an hour.

        Empty where guests boot in time, or where the user chose emulation.
        """
        return EMULATED_TWICE if self.emulated and self.accel == "auto" and self.accel_in(container) == "tcg" else ""

    def verify(self, container: Container) -> None:
        """Compare a container with its mode; raises what :func:`effective_state.verify` raises."""
        effective_state.verify(
            container, cgroup_version=self.fingerprint.cgroup_version, security=self.fingerprint.security
        )

    def container(self, mode: Mode, *, network: str) -> Container:
        """Return a container of the image in a mode; not started yet.

        Spare PCI devices are bound to vfio-pci where the mode exposes them, else to the host's own drivers.

        Raises:
            Unsupported: the host lacks what makes the mode another one, or what the mode needs; or the image wants to
                know who comes.
            HarnessError: the engine refused, or a spare PCI device is unfit.
        """
        if reason := limits.declared(self.contract, self.fingerprint, mode):
            raise Unsupported(reason)
        if "apparmor" in self.fingerprint.security and mode.profile:
            apparmor.load(self.shell, mode.profile)
        if not mode.vfio:
            self.pci_pool.restore()
        if mode.cgroup_namespace == "host":
            self.cgroup_options.remember()
        else:
            self.cgroup_options.restore()
        return Container(
            self.engine.client,
            dataclasses.replace(
                mode,
                majors=char_devices.majors(self.shell, mode.drivers),
                groups=self.pci_pool.bind() if mode.vfio else (),
            ),
            self.image.id,
            run=self.id,
            network=network,
            ready_seconds=self.ready_seconds,
            relay=self._relay,
            health_seconds=MINIMAL_HEALTH_SECONDS if self.minimise_boots else None,
        )

    def unsupported(self, modes_: Sequence[Mode]) -> dict[str, str]:
        """Return why modes cannot run on the host, by id; raises EngineError as :func:`limits.unsupported`."""
        return limits.unsupported(self.contract, self.fingerprint, self.shell, self.pci_pool, modes_)

    def refusals(self, container: Container) -> list[str]:
        """Return denials of AppArmor or SELinux for a container during the present check.

        Raises:
            EngineError: the engine refused.
        """
        mode = container.mode
        security = self.fingerprint.security
        if "apparmor" in security and not mode.privileged and mode.apparmor != UNCONFINED:
            who = mode.profile or lsm_denials.ENGINES_OWN
        elif "selinux" in security and not mode.privileged and modes.UNLABELLED not in mode.security_options:
            who = lsm_denials.CONTAINERS
        else:
            return []
        return lsm_denials.since(self.shell, container.marked, who)

    @functools.cached_property
    def peer_network(self) -> PeerNetwork:
        """Return the server beyond the NAT; raises what :meth:`PeerNetwork.start` raises."""
        return PeerNetwork(self.engine.client, self.probe, self.id).start()

    def lend(self, part: "Run") -> None:
        """Let a run that is a part of this one have its server beyond the NAT, and its ways to the engine's host.

        Spare devices, too: whoever has bound one is who gives it back.
        """
        vars(part).update(peer_network=self.peer_network, _relay=self._relay, pci_pool=self.pci_pool)

    @property
    def shell(self) -> HostShell:
        """Return a shell on the engine's host, with the tools of the image under test."""
        return HostShell(self.engine.client, self.image.id, self.id)

    @functools.cached_property
    def cgroup_options(self) -> CgroupOptions:
        """Return the host's options of cgroup2, which a container in the host's cgroup namespace removes."""
        return CgroupOptions(self.shell)

    @functools.cached_property
    def pci_pool(self) -> PciPool:
        """Return the spare PCI devices of the host."""
        return PciPool(self.shell, self.pci_devices)

    @functools.cached_property
    def _relay(self) -> Relay | None:
        """The way to ports of the engine's host; none where that is this machine."""
        if self.engine.local:
            return None
        with engine_errors():
            image = peer_image(self.engine.client, self.probe)
        return Relay(self.engine.client, image, self.id).start()

    def require(self) -> None:
        """Check the engine and the relay to libvirt.

        Raises:
            EngineError: one is gone: results are no evidence about the image then.
        """
        self.engine.require()
        if relay := vars(self).get("_relay"):
            relay.require()

    def close(self) -> None:
        """Remove the run's things from the engine; raises as :func:`cleanup.remove`."""
        self.kvm_probe.cancel()
        try:
            if relay := vars(self).get("_relay"):
                relay.close()
        finally:
            cleanup.remove(self.engine.client, self.id)
