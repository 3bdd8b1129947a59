"""Running a guest: from the start of its domain to its end."""

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Mapping
from typing import Literal

import libvirt

from conformance.container.container import Container
from conformance.errors import Unsupported
from conformance.guests.guest import Guest, new_guest, plain
from conformance.guests.probe_client import ANSWER_SECONDS, BOOT_SECONDS, ProbeClient
from conformance.guests.qemu_process import QemuProcess, query_kvm
from conformance.guests.session import GuestSession
from conformance.guests.spec import GuestSpec
from conformance.media.probe_report import Report
from conformance.util.wait import for_image, wait_for

LOG = logging.getLogger(__name__)

Place = Literal["console", "screen"]
"""Where a guest shows text: on its first serial port, or on the screen of its video card."""


class RunningGuest:
    """A guest that runs.

    Snapshots and hot-plug are functions of modules of their own.

    Attributes:
        session: its domain, console and screen.
        probe: sends orders to the probe inside, and waits for its events.
        qemu: the host's view of its QEMU process.
    """

    def __init__(
        self, container: Container, connection: "libvirt.virConnect", domain: "libvirt.virDomain", guest: Guest
    ) -> None:
        self.session = GuestSession(container, connection, domain, guest)
        self.probe = ProbeClient(self.session)
        self.qemu = QemuProcess(container, guest)

    @property
    def observed(self) -> Guest:
        """Everything observed of it so far."""
        return self.session.observe()

    @property
    def report(self) -> Report:
        """Its report so far."""
        return self.observed.report

    @property
    def spec(self) -> GuestSpec:
        """Its parts."""
        return self.session.guest.spec

    @property
    def domain(self) -> "libvirt.virDomain":
        """Libvirt's handle."""
        return self.session.domain

    @property
    def alive(self) -> bool:
        """Whether the domain still runs, over a connection that still stands."""
        try:
            return bool(self.domain.isActive())
        except libvirt.libvirtError:
            return False

    @property
    def unresponsive(self) -> bool:
        """Whether an answer is missing, so that the next order would wait in vain."""
        return self.session.unresponsive

    @property
    def address(self) -> str:
        """The address of its lease; raises ImageFailure with its report if there is none."""
        return str(self.report["lease"]["address"])

    def reaches(self, address: str) -> bool:
        """Return whether the guest gets an answer from an address.

        Raises:
            GuestFailure: it could not try.
        """
        return bool(self.probe.ask("reach", target=address)["received"] > 0)

    def wait_for_end(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Wait until the guest has powered itself off, and return it with its whole report.

        Raises:
            GuestFailure: it did not get to its end within ``seconds``.
        """
        session = self.session
        trouble = session.wait("to report and power off", session.ended, seconds)
        if not trouble:
            session.console.drain()
        if not session.observe().report.complete:
            session.screen.save_pictures()
            raise session.failure(trouble or f"guest {session.guest.name} ended without finishing its report")
        return session.guest

    def wait_for_text(self, pattern: str, on: Place | None = None, seconds: float = BOOT_SECONDS) -> dict[str, str]:
        """Wait until a regular expression matches the guest's console or screen, and return the match as evidence.

        Args:
            pattern: the expression; lines on the screen end without spaces, and the console is as :func:`plain` has it.
            on: where it has to match; by default on either.
            seconds: deadline.

        Returns:
            By the place of the match: the matching text of the console, or all text of the screen.

        Raises:
            GuestFailure: it did not match within ``seconds``, or the guest has ended.
        """
        session = self.session
        found: dict[str, str] = {}

        def matches() -> bool:
            on_console = re.search(pattern, plain(session.observe().console)) if on != "screen" else None
            if on_console:
                found["console"] = on_console[0]
            elif on != "console" and re.search(pattern, session.screen.read().text):
                found["screen"] = session.guest.screen.text
                session.screen.judge_picture()
            return bool(found)

        trouble = session.wait(f"to show {pattern!r}", lambda: matches() or session.ended(), seconds)
        if not found and not trouble:
            session.console.drain()
            matches()
        if not found:
            session.screen.save_pictures()
            raise session.failure(trouble or f"guest {session.guest.name} ended without showing {pattern!r}")
        return found

    def shut_down(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Press the power button, wait until the guest has ended its report, and return it.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not end within ``seconds``.
        """
        self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        return self.wait_for_end(seconds)

    def pause(self, seconds: float) -> None:
        """Suspend the guest, and resume it so many seconds later."""
        self.domain.suspend()
        time.sleep(seconds)
        self.domain.resume()

    def reboot(self, seconds: float = BOOT_SECONDS) -> None:
        """Reboot the guest by the power button, and wait until it is up again.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not come up a second time.
        """
        before = self.report.count("ready")
        reboots = libvirt.VIR_DOMAIN_LIFECYCLE_REBOOT
        self.domain.setLifecycleAction(
            reboots, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        self.domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        self.probe.wait_for_another("ready", seconds, after=before)
        self.domain.setLifecycleAction(
            reboots, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )

    def kill(self) -> None:
        """End QEMU by SIGKILL, as a crash would."""
        self.qemu.kill()
        with for_image():
            wait_for(f"QEMU of guest {self.session.guest.name} to be gone", self.session.ended, seconds=ANSWER_SECONDS)


@contextlib.contextmanager
def started(
    container: Container, spec: GuestSpec, orders: Mapping[str, str], *, outlives: bool = False
) -> Iterator[RunningGuest]:
    """Start a guest; it is destroyed at the end, if it has not ended by itself.

    The domain is transient and lives at most as long as the connection: a killed harness leaves no guest.

    Args:
        container: the container to start it in.
        spec: its parts.
        orders: the probe's orders, beside nonce and name.
        outlives: it may live longer than the connection; libvirt takes no snapshot of one that may not.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
        Unsupported: it started, and its boot cannot be waited for on this host.
    """
    guest = new_guest(spec, orders)
    LOG.info("starting guest %s: %s under %s, orders %s", guest.name, spec.firmware, spec.accel, dict(orders))
    # Started paused, so that the console is open before the first byte, and QEMU answers before it ends.
    domain = container.connection.createXML(
        guest.xml, libvirt.VIR_DOMAIN_START_PAUSED | (0 if outlives else libvirt.VIR_DOMAIN_START_AUTODESTROY)
    )
    with resumed(container, domain, guest) as running:
        yield running


@contextlib.contextmanager
def resumed(container: Container, domain: "libvirt.virDomain", guest: Guest) -> Iterator[RunningGuest]:
    """Resume a domain that was started paused, and destroy it at the end.

    Raises:
        Unsupported: it started, and its boot cannot be waited for on this host.
    """
    try:
        if guest.spec.unbootable_reason:
            raise Unsupported(guest.spec.unbootable_reason)
        running = RunningGuest(container, container.connection, domain, guest)
    except BaseException:
        domain.destroy()
        raise
    try:
        guest.kvm = query_kvm(domain)
        guest.open_files = running.qemu.open_files()
        domain.resume()
        yield running
    finally:
        running.session.close()


def boot(container: Container, spec: GuestSpec, orders: Mapping[str, str], seconds: float = BOOT_SECONDS) -> Guest:
    """Start a guest, wait until it has powered itself off, and return it with its report.

    Args:
        container: the container to start it in.
        spec: its parts.
        orders: the probe's orders, beside nonce and name.
        seconds: deadline from its start to its end.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
        GuestFailure: it started and did not get to its end.
    """
    with started(container, spec, orders) as running:
        return running.wait_for_end(seconds)
