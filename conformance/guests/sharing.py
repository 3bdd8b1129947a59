"""Guests that serve several checks: boots whose report answers for several devices, and guests that stay."""

import contextlib
from collections.abc import Callable, Iterable

import libvirt

from conformance.errors import ImageFailure
from conformance.guests.devices import SHARED_GUESTS, DeviceName, Firmware, Sharing, steps
from conformance.guests.guest import Guest
from conformance.guests.running import RunningGuest

Needs = frozenset[DeviceName]

BootAlone = Callable[[Needs, Firmware], Guest]
"""Boots a guest with these devices and no others; raises libvirt.libvirtError or ImageFailure."""

StartGuest = Callable[[Needs], contextlib.AbstractContextManager[RunningGuest]]
"""Starts a guest with these devices that stays; raises libvirt.libvirtError or ImageFailure."""


class SharedBoots:
    """Boots guests, once for several checks where possible.

    Args:
        boot: boots a guest for some devices alone.
        sharing: the boots that are shared.
    """

    def __init__(self, boot: BootAlone, sharing: Sharing) -> None:
        self._boot = boot
        self._sharing = sharing
        self._outcomes: dict[tuple[Firmware, Needs], Guest | Exception] = {}

    def boot(self, needs: Needs, firmware: Firmware) -> Guest:
        """Return a guest that has reported on these devices.

        If a shared boot fails, or a step of these devices in it, they get a boot of their own, so that the feature at
        fault gets the blame.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and did not get to its end.
        """
        for shared_firmware, shared in self._sharing[firmware]:
            if needs <= shared:
                outcome = self._once(shared_firmware, shared)
                if isinstance(outcome, Guest) and not _failures(outcome, needs):
                    return outcome
        own = self._once(firmware, needs)
        if isinstance(own, Exception):
            # Raised once for each feature that needed this boot: without the traceback of the last one.
            raise own.with_traceback(None)
        return own

    def _once(self, firmware: Firmware, needs: Needs) -> Guest | Exception:
        if (firmware, needs) not in self._outcomes:
            try:
                outcome: Guest | Exception = self._boot(needs, firmware)
            except (libvirt.libvirtError, ImageFailure) as error:
                outcome = error
            self._outcomes[firmware, needs] = outcome
        return self._outcomes[firmware, needs]


class SharedGuests:
    """Guests that stay and serve every check that needs their devices, until one ends them.

    Args:
        start: starts a guest that stays.
    """

    def __init__(self, start: StartGuest) -> None:
        self._start = start
        self._guests: dict[Needs, RunningGuest] = {}
        self._failed: set[Needs] = set()
        self._closing = contextlib.ExitStack()

    def running(self, needs: Needs, beside: RunningGuest | None = None) -> RunningGuest:
        """Return a running guest that has these devices, and may have more.

        Args:
            needs: the devices.
            beside: another guest, which is not returned.

        Raises:
            libvirt.libvirtError: the domain did not start.
            GuestFailure: it started, and never got ready for orders.
        """
        there = {have: guest for have, guest in self._guests.items() if guest.alive and not guest.unresponsive}
        # The one with the fewest further devices: the others stay for checks that need more.
        for have in sorted(there, key=len):
            if needs <= have and there[have] is not beside:
                return there[have]
        for have in SHARED_GUESTS:
            if needs < have and have not in there and have not in self._failed:
                try:
                    return self._keep(have)
                except (libvirt.libvirtError, ImageFailure):
                    # As with a shared boot: the check gets a guest of its own, so that the device at fault is blamed.
                    self._failed.add(have)
        return self._keep(needs)

    def close(self) -> None:
        """End the guests."""
        self._closing.close()

    def _keep(self, needs: Needs) -> RunningGuest:
        self._guests[needs] = self._closing.enter_context(self._start(needs))
        return self._guests[needs]


def _failures(guest: Guest, needs: Iterable[DeviceName]) -> list[str]:
    return [failure for need in needs for failure in guest.report.failures(*steps(need))]
