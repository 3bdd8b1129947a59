"""Watching an installation: its progress, its signs of life, and screenshots where there are none."""

import time
from collections.abc import Callable, Mapping

import libvirt

from conformance.guests.guest import Guest
from conformance.guests.probe_client import BOOT_SECONDS
from conformance.guests.running import RunningGuest
from conformance.guests.screen_watch import LOOK_SECONDS
from conformance.guests.spec import Accel
from conformance.media.probe_report import Event

TELL_SECONDS = 20.0
"""Between two lines of progress."""

LINE_CHARACTERS = 60
"""Characters of a console's line in a line of progress: its end, where counters grow."""

STALL_SECONDS: Mapping[Accel, float] = {"kvm": 600, "tcg": 1800}
"""The longest time without activity on console and disk; an emulated guest beside much load was silent for 13 min."""

REBOOTS = 10
"""More than any installation needs: a Debian reboots once, a Windows some three times."""

PANIC = "end Kernel panic"
"""Part of the last line that Linux writes (kernel/panic.c); an installer's kernel does not reboot then."""

LOADER_BYTES = 16 * 2**20
"""More than a loader reads before it waits for a key, and less than the system that it loads then."""

KEY_ENTER = 28
"""Linux' number for the key (input-event-codes.h)."""

INSTALL_SECONDS = 3 * 3600.0
"""From an installation's start to its reboot."""

START_SECONDS = 1800.0
"""From there to the report of the installed system."""


class Watch:
    """Watches a guest that works for a long time.

    Args:
        running: the guest.
        progress: receives the phase, the time since the beginning and the console's newest line.
        where: begins each line of progress.
        stall_seconds: a guest without any sign of life for so long has failed.
        clock: seconds since any moment.
    """

    def __init__(
        self,
        running: RunningGuest,
        progress: Callable[[str], None],
        where: str,
        *,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._running = running
        self._session = running.session
        self._progress = progress
        self._where = where
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._begun = self._moved = clock()
        self._next = self._begun
        self._activity: tuple[int, ...] = ()

    @property
    def guest(self) -> Guest:
        """Everything observed of the guest so far."""
        return self._running.observed

    def until(self, event: str, phase: str, seconds: float) -> Event:
        """Wait until the guest has reported an event, and return it.

        Args:
            event: the event's name.
            phase: the guest's work meanwhile, in a few words.
            seconds: deadline.

        Raises:
            GuestFailure: it did not, has ended, has shown no sign of life for too long, has panicked, or reboots
                again and again; the newest screenshots are kept, and the failure names their files.
        """

        def trouble() -> str:
            now = self._clock()
            if now < self._next:
                return ""
            self._next = now + TELL_SECONDS
            activity = self._session.activity()
            if activity != self._activity:
                self._activity, self._moved = activity, now
            self._session.screen.take_picture()
            line = self._session.last_line
            self._progress(f"{self._where}: {phase}, {minutes(now - self._begun)}: {_end(line)}")
            if self._session.reboots > REBOOTS:
                return f"{phase}: it has rebooted {self._session.reboots} times; its console ends with {line!r}"
            if PANIC in line:
                return f"{phase}: its kernel panicked: {line!r}"
            still = now - self._moved
            if still < self._stall_seconds:
                return ""
            return f"{phase}: no activity on console and disk for {minutes(still)}; its console ends with {line!r}"

        return self._running.probe.wait_for_event(event, seconds, meanwhile=trouble)

    def press_any_key(self, seconds: float = BOOT_SECONDS) -> None:
        """Press a key until the guest reads more than a loader from its medium, which may wait for a key.

        Raises:
            libvirt.libvirtError: the daemon refused, or the guest has ended.
            GuestFailure: it did not read so much within ``seconds``.
        """
        self._progress(f"{self._where}: pressing a key, in case that the medium waits for one")
        session = self._session

        def reads() -> bool:
            if session.domain.blockStats("sda")[1] > LOADER_BYTES:
                return True
            session.domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 50, [KEY_ENTER], 1, 0)
            return False

        trouble = session.wait("to boot from its medium", reads, seconds, interval=LOOK_SECONDS)
        if trouble:
            session.screen.take_picture()
            session.screen.save_pictures()
            raise session.failure(trouble)

    def wait_for_end(self, seconds: float = START_SECONDS) -> Guest:
        """Wait until the guest has powered itself off, and return it; raises as RunningGuest.wait_for_end."""
        return self._running.wait_for_end(seconds)

    def shut_down(self, seconds: float = START_SECONDS) -> Guest:
        """Press the power button, and return the guest when it has ended; raises as RunningGuest.shut_down."""
        self._progress(f"{self._where}: shutting down, {minutes(self._clock() - self._begun)}")
        return self._running.shut_down(seconds)


def _end(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else f"…{line[1 - LINE_CHARACTERS :]}"


def minutes(seconds: float) -> str:
    """Write a time as minutes and seconds."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
