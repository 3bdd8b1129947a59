"""Watching the screen of a running guest: its text now, and the screenshots that explain a failure."""

import contextlib
import time
from collections import deque

import libvirt

from conformance.guests.guest import Guest
from conformance.guests.screen import Reading, Screen, save
from conformance.util import paths

LOOK_SECONDS = 1
"""Between two screenshots."""

PICTURES = 12
"""Number of a guest's screenshots that are kept: the newest ones that differ."""


class ScreenWatcher:
    """Watches a guest's screen; does nothing for a guest without a video card.

    Args:
        connection: to libvirt.
        domain: the guest's.
        guest: receives the screen's text and the screenshots.
    """

    def __init__(self, connection: "libvirt.virConnect", domain: "libvirt.virDomain", guest: Guest) -> None:
        self._guest = guest
        self._screen = Screen(connection, domain) if guest.spec.screen else None
        self._next_look = 0.0
        self._pictures: deque[bytes] = deque(maxlen=PICTURES)

    def read(self) -> Reading:
        """Return the text on the screen, at most a moment old: a screenshot costs the guest more than reading it."""
        if self._screen and time.monotonic() >= self._next_look:
            try:
                self._guest.screen = self._screen.capture()
            except libvirt.libvirtError as error:
                # A guest may end at any moment; waiting notices that, and the last screenshot is kept.
                if not self._screen.picture:
                    self._guest.screen = Reading(missing=str(error))
            self._next_look = time.monotonic() + LOOK_SECONDS
        return self._guest.screen

    def judge_picture(self) -> None:
        """Note the newest screenshot as the one that was judged."""
        self._guest.screenshot = self._screen.picture if self._screen else b""

    def take_picture(self) -> None:
        """Take a screenshot; the newest ones are kept to explain a failure."""
        self.read()
        if self._screen and self._screen.picture and self._screen.picture not in self._pictures:
            self._pictures.append(self._screen.picture)

    def save_pictures(self) -> None:
        """Write the screenshots into the folder of artefacts, and note their paths."""
        if not self._screen or not self._screen.picture:
            return
        self.judge_picture()
        pictures = list(self._pictures) or [self._screen.picture]
        ends = [""] if len(pictures) == 1 else [f"-{number}" for number in range(1, len(pictures) + 1)]
        with contextlib.suppress(OSError):
            kept = [
                save(picture, paths.ARTEFACTS / f"{self._guest.name}{end}.png")
                for picture, end in zip(pictures, ends, strict=True)
            ]
            self._guest.picture = ", ".join(f"{path.parent.name}/{path.name}" for path in kept)
