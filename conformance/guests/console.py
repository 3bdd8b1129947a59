"""The serial console of a running domain."""

import contextlib
import threading

import libvirt

from conformance.util.wait import for_image, wait_for

CONSOLE_BYTES = 2**20
"""Bytes of a console that are kept; a probe writes 10 KiB, and firmware and loaders not much more."""

DRAIN_SECONDS = 5

SEND_SECONDS = 150
"""Deadline for typing one order."""


class SerialConsole:
    """Collects the bytes of a domain's serial console, and types orders."""

    def __init__(self, connection: "libvirt.virConnect", domain: "libvirt.virDomain") -> None:
        self._text = bytearray()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, self._stream, 0)
        self._stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR,
            self._receive,
            None,
        )

    def _receive(self, stream: "libvirt.virStream", events: int, _opaque: object) -> None:
        ended = bool(events & (libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR))
        with contextlib.suppress(libvirt.libvirtError):
            while True:
                received = stream.recv(65536)
                if not isinstance(received, bytes):  # -2: nothing more for now
                    break
                if not received:
                    ended = True
                    break
                with self._lock:
                    self._text += received[: CONSOLE_BYTES - len(self._text)]
        if ended:
            # A stream at its end stays readable: without this the event loop would spin.
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._ended.set()

    def send(self, text: str) -> None:
        """Type a text.

        Raises:
            ImageLate: the guest's serial port did not take it.
        """
        rest = text.encode()

        def sent() -> bool:
            nonlocal rest
            rest = rest[max(self._stream.send(rest), 0) :]  # -2: not now
            return not rest

        with for_image():
            wait_for("the guest's serial port to take an order", sent, seconds=SEND_SECONDS)

    def drain(self) -> None:
        """Wait for the last bytes: they may arrive after the domain is gone."""
        self._ended.wait(DRAIN_SECONDS)

    @property
    def full(self) -> bool:
        """Whether more bytes came than are kept."""
        with self._lock:
            return len(self._text) >= CONSOLE_BYTES

    @property
    def text(self) -> str:
        """The text so far."""
        with self._lock:
            return self._text.decode(errors="replace")

    def close(self) -> None:
        """Stop to listen."""
        with contextlib.suppress(libvirt.libvirtError):
            # An aborted stream is at its end as well, and would keep the event loop spinning for the rest of the run.
            if not self._ended.is_set():
                self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()
