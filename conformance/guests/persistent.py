"""Guests as persistent domains: they can start several times, also in a renewed container or together with it."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping

import libvirt

from conformance.container.container import Container
from conformance.errors import Unsupported
from conformance.guests.guest import Guest, GuestFailure, new_guest
from conformance.guests.probe_client import BOOT_SECONDS
from conformance.guests.running import resumed
from conformance.guests.spec import GuestSpec
from conformance.media.probe_report import Report
from conformance.util.wait import DeadlineExpired, wait_for

AUTOSTART_SECONDS = 40
"""From libvirt's first answer to the start of a domain with autostart: tenths of a second, except on slow hosts."""

CONSOLE_LOG_SECONDS = 0.5
"""Between two reads of a console's log, each of which starts a program in the container."""


class PersistentGuest:
    """A probe guest as a persistent domain, which can be started again, also in a renewed container.

    Args:
        container: the container to define it in.
        spec: its parts.
        orders: the probe's orders in each boot, beside its nonce, which is the same in all.

    Raises:
        libvirt.libvirtError: the daemon refuses the definition.
    """

    def __init__(self, container: Container, spec: GuestSpec, orders: Mapping[str, str]) -> None:
        self.spec = spec
        self._container = container
        self._guest = new_guest(spec, orders)
        container.connection.defineXML(self._guest.xml)

    def boot(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Start the domain, wait until it has powered itself off, and return this boot.

        Raises:
            libvirt.libvirtError: the domain is gone, or does not start.
            GuestFailure: it started and did not get to its end within ``seconds``.
        """
        domain = self._domain()
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY)
        with resumed(self._container, domain, dataclasses.replace(self._guest)) as running:
            return running.wait_for_end(seconds)

    def start(self) -> None:
        """Start the domain, paused at its first instruction.

        Raises:
            libvirt.libvirtError: the domain does not start; the daemon's own words.
        """
        self._domain().createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def end(self) -> None:
        """Destroy the domain; raises libvirt.libvirtError where it does not run."""
        self._domain().destroy()

    def undefine(self) -> None:
        """Remove the definition and the file of its UEFI variables, if they are still there."""
        with contextlib.suppress(libvirt.libvirtError):
            self._domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

    def _domain(self) -> "libvirt.virDomain":
        return self._container.connection.lookupByName(self._guest.name)


class AutostartGuest:
    """A probe guest as a persistent domain that starts with its host; its report is read from a file.

    Args:
        container: the container to define it in.
        spec: its parts, with a console log.
        orders: the probe's orders in each boot, beside its nonce, which is the same in all.

    Raises:
        libvirt.libvirtError: the daemon refuses the definition.
    """

    def __init__(self, container: Container, spec: GuestSpec, orders: Mapping[str, str]) -> None:
        self._container = container
        self._guest = new_guest(spec, orders)
        container.connection.defineXML(self._guest.xml).setAutostart(1)

    @property
    def name(self) -> str:
        """The domain's name."""
        return self._guest.name

    def start(self) -> None:
        """Start it by hand, this once; raises libvirt.libvirtError where the daemon refuses."""
        self._domain().create()

    def begin_and_end(self) -> None:
        """Start it as far as its first instruction, and end it; raises libvirt.libvirtError where it does not start."""
        domain = self._domain()
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        domain.destroy()

    def last_report(self) -> Report:
        """Return the report of its last boot, from the console's log; the container need not run."""
        self._guest.console = self._container.read_file(self._guest.spec.console_log).decode(errors="replace")
        return Report(self._guest.console, self._guest.nonce)

    def wait_until_up(self, seconds: float = BOOT_SECONDS, *, after: Report | None = None) -> Report:
        """Wait until the guest has reported that it is ready, and return its report.

        Args:
            seconds: deadline.
            after: the report of an earlier boot, which does not count.

        Raises:
            Unsupported: its boot cannot be waited for on this host.
            GuestFailure: it did not, or its domain has not been active for as long as a start may take.
        """
        if self._guest.spec.unbootable_reason:
            raise Unsupported(self._guest.spec.unbootable_reason)
        last_active = time.monotonic()

        def ready() -> Report | None:
            nonlocal last_active
            if self._domain().isActive():
                last_active = time.monotonic()
            elif time.monotonic() > last_active + AUTOSTART_SECONDS:
                what = f"guest {self.name} is not running, {AUTOSTART_SECONDS} s after libvirt answered"
                raise GuestFailure(what, self._container, self._guest)
            self._guest.console = self._container.run("cat", self._guest.spec.console_log).text
            self._guest.report = Report(self._guest.console, self._guest.nonce)
            ready = "ready" in self._guest.report and (after is None or _boot(self._guest.report) != _boot(after))
            return self._guest.report if ready else None

        try:
            return wait_for(f"guest {self.name} to be up", ready, seconds=seconds, interval=CONSOLE_LOG_SECONDS)
        except DeadlineExpired as error:
            raise GuestFailure(error.message, self._container, self._guest) from error

    def remove(self) -> None:
        """End and undefine the domain, if it is still there."""
        with contextlib.suppress(libvirt.libvirtError):
            domain = self._domain()
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            domain.undefine()

    def _domain(self) -> "libvirt.virDomain":
        return self._container.connection.lookupByName(self.name)


def _boot(report: Report) -> str:
    """Return the kernel's random name of a boot."""
    return str(report["kept"]["boot"])
