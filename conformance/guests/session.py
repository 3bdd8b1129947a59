"""The harness's side of a running guest: domain, console and screen, and waiting for any of them."""

import contextlib
import time
from collections.abc import Callable

import libvirt

from conformance.container.container import Container
from conformance.guests.console import CONSOLE_BYTES, SerialConsole
from conformance.guests.guest import Guest, GuestFailure, plain
from conformance.guests.screen_watch import ScreenWatcher
from conformance.media.probe_report import Event, Report
from conformance.model.verdict import FULL_DISK
from conformance.util.wait import DeadlineExpired, wait_for

LINGER_SECONDS = 15
"""From a guest's power-off to the end of its domain; a daemon that cannot end QEMU leaves the domain for ever."""

LINE_EXCERPT = 80
"""Characters of a last line's end that go into an error's first one."""


class Stopped(Exception):
    """Waiting is of no use any more; the message is the reason."""


class GuestSession:
    """A running guest: its domain, its console and its screen.

    Attributes:
        container: the container that it runs in.
        connection: to libvirt.
        domain: libvirt's handle.
        guest: everything observed so far.
        console: its serial console.
        screen: its screen.
        unresponsive: an answer is missing: the next order would wait in vain, and be blamed for it.
        reboots: number of its resets; counted only while it installs, since other guests end then.
    """

    def __init__(
        self, container: Container, connection: "libvirt.virConnect", domain: "libvirt.virDomain", guest: Guest
    ) -> None:
        self.container = container
        self.connection = connection
        self.domain = domain
        self.guest = guest
        self.console = SerialConsole(connection, domain)
        self.screen = ScreenWatcher(connection, domain, guest)
        self.unresponsive = False
        self.reboots = 0
        self._started = time.monotonic()
        self._powered_off: float | None = None
        self._past = Report("", guest.nonce)
        """The report over earlier consoles, and the number of the first event on this one."""
        self._past_console = ""
        self._reboot_callback: int | None = None
        if guest.spec.installs:
            self._reboot_callback = connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._count_reboot, None
            )

    def _count_reboot(self, _connection: object, _domain: object, _opaque: object) -> None:
        self.reboots += 1

    def observe(self) -> Guest:
        """Bring the guest up to date with its console, and return it."""
        text = self.console.text
        self.guest.console = self._past_console + text
        self.guest.report = Report(text, self.guest.nonce, past=self._past.events, number=self._past.number)
        self.guest.seconds = time.monotonic() - self._started
        return self.guest

    @property
    def last_line(self) -> str:
        """The newest line on the console that is not empty, without the sequences of a terminal."""
        lines = [line for line in plain(self.observe().console).splitlines() if line.strip()]
        return " ".join(lines[-1].split()) if lines else ""

    def activity(self) -> tuple[int, ...]:
        """Return numbers that change whenever the guest writes to its console or uses its disk."""
        moved: tuple[int, ...] = ()
        with contextlib.suppress(libvirt.libvirtError):  # it may end at any moment
            moved = tuple(self.domain.blockStats("vda")[:4]) if self.guest.spec.disk else ()
        return (len(self.console.text), *moved)

    def wait(self, what: str, holds: Callable[[], bool], seconds: float, interval: float = 0.1) -> str:
        """Wait until a condition holds, and return an empty text, or else the reason why it never will."""
        try:
            wait_for(
                f"guest {self.guest.name} {what}", holds, seconds=seconds, interval=interval, seen=self._last_lines
            )
        except DeadlineExpired as error:
            return error.message
        except Stopped as error:
            return str(error)
        return ""

    def wait_for_report(self, what: str, find: Callable[[Report], Event | None], seconds: float) -> Event:
        """Wait until an event is found in the report, and return it.

        Args:
            what: completes "waited for guest NAME …".
            find: returns the event; may raise :class:`Stopped`.
            seconds: deadline.

        Raises:
            GuestFailure: there was none within ``seconds``, or the guest ended without it.
        """
        found: list[Event] = []

        def reported() -> bool:
            event = find(self.observe().report)
            found.extend([event] if event else [])
            return bool(found) or self.ended()

        trouble = self.wait(what, reported, seconds)
        if not found and not trouble:
            # It has ended: its last words may still be on their way.
            self.console.drain()
            with contextlib.suppress(Stopped):
                event = find(self.observe().report)
                found.extend([event] if event else [])
        if not found:
            self.unresponsive = True
            self.screen.save_pictures()
            raise self.failure(trouble or f"guest {self.guest.name} ended instead of {what}")
        return found[0]

    def ended(self) -> bool:
        """Return whether the domain has ended; notes its leases while it runs.

        Raises:
            Stopped: it neither runs nor ends.
        """
        try:
            state, reason = self.domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return True
            raise
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_CRASHED):
            raise Stopped(
                f"guest {self.guest.name} stopped running (state {state}, reason {reason}){self._disk_errors()}"
            )
        if state != libvirt.VIR_DOMAIN_SHUTDOWN:
            self._powered_off = None
        elif self._powered_off is None:
            self._powered_off = time.monotonic()
        elif time.monotonic() > self._powered_off + LINGER_SECONDS:
            raise Stopped(
                f"guest {self.guest.name} powered off, and libvirt did not end its domain within {LINGER_SECONDS} s"
            )
        if self.console.full:
            raise Stopped(f"guest {self.guest.name} floods its console: {CONSOLE_BYTES} bytes and more")
        network = self.guest.spec.network
        if network and not self.guest.leases and '"event":"lease"' in self.console.text:
            self.guest.leases = list(self.connection.networkLookupByName(network).DHCPLeases(self.guest.mac))
        return bool(state == libvirt.VIR_DOMAIN_SHUTOFF)

    def failure(self, message: str) -> GuestFailure:
        """Return a failure of this guest, with its console and logs."""
        return GuestFailure(message, self.container, self.observe())

    def resume_in_new_process(self, number: int) -> None:
        """Resume the domain, which libvirt has put into a new process and paused, over a new console.

        Args:
            number: the number of the next event that the guest will report.
        """
        self._past = self.observe().report
        self._past.number = number
        self._past_console = self.guest.console
        self.console.close()
        self.domain = self.connection.lookupByName(self.guest.name)
        self.console = SerialConsole(self.connection, self.domain)
        self.domain.resume()

    def close(self) -> None:
        """Destroy the domain, if it is still there."""
        self.observe()
        self.console.close()
        with contextlib.suppress(libvirt.libvirtError):
            if self._reboot_callback is not None:
                self.connection.domainEventDeregisterAny(self._reboot_callback)
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()

    def _disk_errors(self) -> str:
        """Return QEMU's errors on the guest's disks, in words; empty if there are none."""
        words = {libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: FULL_DISK}
        with contextlib.suppress(libvirt.libvirtError):
            return "".join(
                f"; {disk}: {words.get(code, 'I/O error')}" for disk, code in self.domain.diskErrors().items()
            )
        return ""

    def _last_lines(self) -> str:
        """Return the last lines of console and screen in one line; for errors."""
        places = {"console": plain(self.observe().console).strip(), "screen": self.guest.screen.text.strip()}
        ends = {place: text.splitlines()[-1][-LINE_EXCERPT:] for place, text in places.items() if text}
        return ", ".join(f"its {place} ends with {line!r}" for place, line in ends.items())
