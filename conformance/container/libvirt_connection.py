"""The connection to libvirt: opened with a deadline, watched by keep-alive, its event loop in a thread."""

import operator
import threading

import libvirt

from conformance.util.wait import within

KEEPALIVE_SECONDS = 5
KEEPALIVE_COUNT = 4
"""A daemon that is silent for 25 s closes the connection, so that no call waits for ever."""

_loop = threading.Lock()
_started = False


def start_event_loop() -> None:
    """Run libvirt's event loop in a daemon thread; once a process.

    A console stream delivers nothing and keep-alive does nothing unless the default loop was registered
    before the connection was opened.
    """
    global _started
    with _loop:
        if _started:
            return
        libvirt.virEventRegisterDefaultImpl()
        # libvirt prints every error on stderr by itself; here each error is an exception already. Nothing in Python may
        # handle it: ctrl-C would be raised in there, within libvirt's call, and come out of that as a SystemError.
        libvirt.registerErrorHandler(operator.is_, None)

        def turn() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
        _started = True


def connect(uri: str, seconds: float = 15) -> "libvirt.virConnect":
    """Open a connection with keep-alive.

    Args:
        uri: for example ``qemu+tcp://127.0.0.1:16509/system``.
        seconds: deadline.

    Raises:
        libvirt.libvirtError: the daemon refused or nothing listens.
        DeadlineExpired: something listens, and does not answer.
    """
    start_event_loop()
    connection: libvirt.virConnect = within(f"an answer from {uri}", lambda: libvirt.open(uri), seconds=seconds)
    connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
    return connection
