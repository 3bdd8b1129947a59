"""Watching long work in a guest: how far it is, that it still moves, and what its screen showed where it does not."""

import time
from collections.abc import Callable, Mapping

from conformance.guests.guest import Accel, Guest, RunningGuest
from conformance.media.probe_report import Event

TELL_SECONDS = 20.0
"""Between two lines of progress."""

LINE_CHARACTERS = 60
"""Of a console's line as much as is told: its end, as a counter only grows there."""

STALL_SECONDS: Mapping[Accel, float] = {"kvm": 600, "tcg": 1800}
"""So long console and disk of a guest may stand still; an emulated one beside much load was silent for 13 minutes."""

REBOOTS = 10
"""More than any installation needs: a Debian reboots once, a Windows some three times."""

PANIC = "end Kernel panic"
"""In the last line that Linux writes (kernel/panic.c); an installer's does not reboot then."""

INSTALL_SECONDS = 3 * 3600.0
"""From an installation's start to its reboot."""

START_SECONDS = 1800.0
"""From there to the report of the system that was installed."""


class Watch:
    """A guest that works for a long time.

    Attributes:
        guest: what is known of it so far.

    Args:
        running: the guest.
        progress: told the phase, the time since the beginning and the console's newest line.
        where: begins each line of progress.
        stall_seconds: after which a guest without any sign of life is given up.
        clock: seconds from anywhere.
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
        self._progress = progress
        self._where = where
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._begun = self._moved = clock()
        self._next = self._begun
        self._activity: tuple[int, ...] = ()

    @property
    def guest(self) -> Guest:
        """Return what is known of the guest so far."""
        return self._running.read()

    def until(self, event: str, phase: str, seconds: float) -> Event:
        """Wait until the guest has reported an event, and return it.

        Args:
            event: the event's name.
            phase: what the guest does meanwhile, in a few words.
            seconds: deadline.

        Raises:
            GuestFailure: it did not, has ended, has shown no sign of life for as long as it may, has panicked, or
                reboots again and again; the newest screenshots are kept, and the failure says where.
        """

        def look() -> str:
            now = self._clock()
            if now < self._next:
                return ""
            self._next = now + TELL_SECONDS
            activity = self._running.activity()
            if activity != self._activity:
                self._activity, self._moved = activity, now
            self._running.picture()
            line = self._running.last_line
            self._progress(f"{self._where}: {phase}, {minutes(now - self._begun)}: {_end(line)}")
            if self._running.reboots > REBOOTS:
                return f"{phase}: it has rebooted {self._running.reboots} times; its console ends with {line!r}"
            if PANIC in line:
                return f"{phase}: its kernel panicked: {line!r}"
            still = now - self._moved
            if still < self._stall_seconds:
                return ""
            return f"{phase}: no activity on console and disk for {minutes(still)}; its console ends with {line!r}"

        return self._running.wait_for_event(event, seconds, meanwhile=look)

    def press_any_key(self) -> None:
        """Press a key until the guest boots from its medium; raises what Running.press_any_key does."""
        self._progress(f"{self._where}: pressing a key, in case that the medium asks for one")
        self._running.press_any_key()

    def wait_for_end(self, seconds: float = START_SECONDS) -> Guest:
        """Wait until the guest has powered itself off, and return it; raises what Running.wait_for_end does."""
        return self._running.wait_for_end(seconds)

    def shut_down(self, seconds: float = START_SECONDS) -> Guest:
        """Press the power button, and return the guest when it has ended; raises what Running.shut_down does."""
        self._progress(f"{self._where}: shutting down, {minutes(self._clock() - self._begun)}")
        return self._running.shut_down(seconds)


def _end(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else f"…{line[1 - LINE_CHARACTERS :]}"


def minutes(seconds: float) -> str:
    """Write a time as minutes and seconds."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
