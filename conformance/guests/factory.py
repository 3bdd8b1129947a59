"""The guests of one container: every way to start one."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt

from conformance.container.container import Container
from conformance.errors import HarnessError, ImageFailure
from conformance.guests import devices, running
from conformance.guests.devices import ONE_BOOT_EACH, DeviceName, Firmware, Sharing
from conformance.guests.guest import Guest
from conformance.guests.install_watch import STALL_SECONDS, Watch
from conformance.guests.peer_network import PeerNetwork
from conformance.guests.persistent import AutostartGuest, PersistentGuest
from conformance.guests.probe_client import BOOT_SECONDS
from conformance.guests.request import GuestRequest, Installation
from conformance.guests.running import RunningGuest
from conformance.guests.sharing import SharedBoots, SharedGuests
from conformance.guests.spec import Accel, DiskFormat, GuestSpec
from conformance.guests.storage import POOL, StoragePool
from conformance.media.probe import Probe

NETWORK = "default"
"""The network that the documentation offers to guests."""

STAY_SECONDS = 600
"""A guest that stays ends by itself after so long without an order."""


class Guests:
    """Starts guests in a container.

    Attributes:
        container: the container.
        accel: how the guests run.
        pool: the storage pool of their volumes.

    Args:
        container: the container.
        probe: the medium.
        peer_network: the server outside of the container that guests talk to.
        accel: how the guests run.
        progress: receives a line about each start.
        sharing: the boots that answer for several devices.
        unbootable_reason: why a boot cannot be waited for here; empty if it can.
    """

    def __init__(
        self,
        container: Container,
        probe: Probe,
        peer_network: PeerNetwork,
        accel: Accel,
        progress: Callable[[str], None],
        *,
        sharing: Sharing = ONE_BOOT_EACH,
        unbootable_reason: str = "",
    ) -> None:
        self.container = container
        self.accel: Accel = accel
        self.pool = StoragePool(container)
        self._probe = probe
        self._peer_network = peer_network
        self._progress = progress
        self._unbootable_reason = unbootable_reason
        self._shared_boots = SharedBoots(lambda needs, by: self.boot_alone(*needs, firmware=by), sharing)
        self._shared_guests = SharedGuests(lambda needs: self.start(_shared(needs)))

    def boot(self, *needs: DeviceName, firmware: Firmware = "bios") -> Guest:
        """Return a guest that has reported on these devices and powered itself off; raises as SharedBoots.boot."""
        return self._shared_boots.boot(frozenset(needs), firmware)

    def boot_alone(self, *needs: DeviceName, firmware: Firmware, seconds: float = BOOT_SECONDS) -> Guest:
        """Boot a guest with these devices and no others; raises as :meth:`boot`."""
        wanted = frozenset(needs)
        what = ", ".join(sorted(wanted)) or "boot only"
        self._report_start(f"a guest by {firmware.upper()} under {self.accel}: {what}")
        orders = self._orders(wanted, devices.topics(wanted))
        return running.boot(self.container, self._spec(firmware, wanted), orders, seconds)

    def running(self, *needs: DeviceName, beside: RunningGuest | None = None) -> RunningGuest:
        """Return a running guest that has these devices; raises as SharedGuests.running.

        Args:
            needs: the devices that it has to have; it may have more.
            beside: another guest, which is not returned.
        """
        return self._shared_guests.running(frozenset(needs), beside)

    @contextlib.contextmanager
    def start(self, request: GuestRequest) -> Iterator[RunningGuest]:
        """Start a guest that stays until the end of this context; one with the probe is ready for orders.

        Raises:
            HarnessError: the host lacks the link that it is to be on.
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got ready for orders.
        """
        with self.start_together(request) as (guest,):
            yield guest

    @contextlib.contextmanager
    def start_together(self, *requests: GuestRequest) -> Iterator[tuple[RunningGuest, ...]]:
        """Start several guests at once; raises as :meth:`start`."""
        with contextlib.ExitStack() as closing:
            guests = tuple(closing.enter_context(self._started(request)) for request in requests)
            for request, guest in zip(requests, guests, strict=True):
                if request.medium is None:
                    guest.probe.wait_for_event("ready")
            yield guests

    def _started(self, request: GuestRequest) -> contextlib.AbstractContextManager[RunningGuest]:
        self._report_start(f"{request.description} under {self.accel}")
        if request.medium is not None:
            return running.started(self.container, self._medium_spec(request, request.medium), {})
        orders = {**self._orders(request.devices, request.topics), **request.orders, "stay": str(STAY_SECONDS)}
        return running.started(self.container, self._requested_spec(request), orders, outlives=request.outlives)

    @contextlib.contextmanager
    def autostarted(self, *, now: bool = True) -> Iterator[AutostartGuest]:
        """Define a guest that starts with the container, until the end of this context.

        Args:
            now: start it by hand this once, and wait until it is up.

        Raises:
            libvirt.libvirtError: the daemon refuses.
            GuestFailure: it does not come up.
        """
        self._report_start("a guest that starts with the container")
        self.container.revive()
        log = f"{self.container.mode.image.logs}/autostarted-{time.monotonic_ns()}.console"
        spec = dataclasses.replace(self._spec("bios", frozenset()), console_log=log)
        guest = AutostartGuest(self.container, spec, {"ask": "kept,button", "stay": str(STAY_SECONDS)})
        try:
            if now:
                guest.start()
                guest.wait_until_up()
            yield guest
        finally:
            guest.remove()

    def defined_with_variable(
        self, variable: str, *, firmware: Firmware
    ) -> contextlib.AbstractContextManager[PersistentGuest]:
        """Define a persistent domain that reports on a UEFI variable in each boot, until the end of the context.

        Raises:
            libvirt.libvirtError: the daemon refuses the definition.
        """
        self._report_start(f"a persistent guest by {firmware.upper()}, started twice")
        nvram = f"{self.pool.path}/{variable}_VARS.fd"
        spec = dataclasses.replace(self._spec(firmware, frozenset()), nvram=nvram)
        return self._defined(spec, {"ask": "nvram", "variable": variable})

    def defined(self, *needs: DeviceName) -> contextlib.AbstractContextManager[PersistentGuest]:
        """Define a persistent domain with these devices, until the end of the context.

        Raises:
            libvirt.libvirtError: the daemon refuses the definition.
        """
        wanted = frozenset(needs)
        self._report_start(f"a persistent guest: {', '.join(sorted(wanted))}")
        return self._defined(self._spec("bios", wanted), self._orders(wanted, devices.topics(wanted)))

    @contextlib.contextmanager
    def _defined(self, spec: GuestSpec, orders: dict[str, str]) -> Iterator[PersistentGuest]:
        domain = PersistentGuest(self.container, spec, orders)
        try:
            yield domain
        finally:
            domain.undefine()

    @contextlib.contextmanager
    def installing(self, what: Installation, *, firmware: Firmware) -> Iterator[Watch]:
        """Start an installation from a medium onto an empty disk, with a network, until the end of this context.

        Args:
            what: the system.
            firmware: how the medium is booted.

        Raises:
            libvirt.libvirtError: the domain did not start, or the network is not active.
        """
        require_started(self.container.connection.networkLookupByName(NETWORK))
        disk = self.pool.new_sparse_disk(what.disk_bytes)
        spec = GuestSpec(
            firmware,
            self.accel,
            POOL,
            iso=self.pool.upload_medium(what.medium),
            more_isos=tuple(self.pool.upload_medium(path) for path in what.more),
            disk=disk,
            network=NETWORK,
            firmware_on_serial=True,
            screen=True,
            memory_mib=what.memory_mib,
            cpus=what.cpus,
            devices=what.devices,
            installs=True,
        )
        try:
            with running.started(self.container, spec, {"peer": self._peer_network.server, **what.orders}) as guest:
                where = f"{self.container.mode.id}, {firmware.upper()}"
                yield Watch(guest, self._progress, where, stall_seconds=STALL_SECONDS[self.accel])
        finally:
            # Gigabytes, which nothing needs any more.
            with contextlib.suppress(libvirt.libvirtError):
                self.pool.delete(disk)

    def close(self) -> None:
        """End the guests that stay."""
        self._shared_guests.close()

    def _report_start(self, what: str) -> None:
        self._progress(f"{self.container.mode.id}: {what}")

    def _requested_spec(self, request: GuestRequest) -> GuestSpec:
        link = request.macvtap_link
        if link and self.container.run("test", "-e", f"/sys/class/net/{link}").status:
            raise HarnessError(f"the engine's host has no link {link}", "name another with --macvtap-link")
        spec = self._spec(request.firmware, request.devices)
        return dataclasses.replace(
            spec,
            macvtap=link or spec.macvtap,
            macvtap_mode=request.macvtap_mode,
            hostdev=request.pci_device.address if request.pci_device else "",
            managed=not self.container.mode.vfio,
            tuning=request.tuning,
            memory_mib=request.memory_mib,
            cpus=request.cpus,
            cpu_model=request.cpu_model,
            adjustable=request.adjustable,
        )

    def _medium_spec(self, request: GuestRequest, medium: Path) -> GuestSpec:
        """Return the parts of a guest that boots from a medium, which need not be the probe's."""
        return GuestSpec(
            request.firmware,
            self.accel,
            POOL,
            iso=self.pool.upload_medium(medium),
            firmware_on_serial=True,
            screen=True,
            memory_mib=request.memory_mib,
        )

    def _spec(self, firmware: Firmware, needs: frozenset[DeviceName]) -> GuestSpec:
        """Return the parts of a guest with the probe and some devices; creates and uploads its volumes."""
        disk_format: DiskFormat = "qcow2" if "snapshots" in needs else "raw"
        kernel = "" if "iso" in needs else self.pool.upload("vmlinuz", self._probe.kernel)
        return GuestSpec(
            firmware=firmware,
            accel=self.accel,
            pool=POOL,
            iso=self._probe_medium(firmware) if "iso" in needs else "",
            kernel=kernel,
            initrd=self.pool.upload("initrd", self._probe.initrd) if kernel else "",
            disk=self.pool.new_disk(disk_format) if needs & {"disk", "snapshots"} else "",
            disk_format=disk_format,
            devices=needs,
            network=NETWORK if "network" in needs else "",
            macvtap=self._peer_network.link(self.container.mode) if "macvtap" in needs else "",
            unbootable_reason=self._unbootable_reason,
        )

    def _probe_medium(self, firmware: Firmware) -> str:
        """Upload the probe's medium that this firmware boots, and return its volume's name."""
        medium = self._probe.signed_iso if firmware == "secure-boot" else self._probe.iso
        return self.pool.upload(medium.name, medium).rpartition("/")[2]

    def _orders(self, needs: frozenset[DeviceName], topics: str) -> dict[str, str]:
        """Return the orders for a report on some topics.

        Raises:
            libvirt.libvirtError: the network is needed, and cannot be started.
            ImageFailure: the network is needed, and was not started.
        """
        orders = {"ask": topics}
        if "network" in needs:
            require_started(self.container.connection.networkLookupByName(NETWORK))
        if {"net", "exchange"} & set(topics.split(",")):
            orders["peer"] = self._peer_network.server
        return orders


def _shared(needs: frozenset[DeviceName]) -> GuestRequest:
    """Request a guest that stays for several checks; one with a network has its lease."""
    # It obeys the power button, so that a container that stops need not wait for it.
    network: frozenset[DeviceName] = needs & {"network"}
    return GuestRequest(
        f"a guest that stays: {', '.join(sorted(needs)) or 'boot only'},",
        devices=needs,
        topics=",".join([*filter(None, [devices.topics(network)]), "button"]),
        adjustable=True,
        outlives=True,
    )


def require_started(network: "libvirt.virNetwork") -> None:
    """Raise unless a network is active.

    Raises:
        libvirt.libvirtError: it cannot be started; the daemon's own reason, which "not active" alone is not.
        ImageFailure: it can be started, and was not.
    """
    if not network.isActive():
        network.create()
        network.destroy()
        raise ImageFailure(f"network {network.name()} can be started, but was not")
