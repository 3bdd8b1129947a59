"""Free TCP ports of this machine."""

import contextlib
import secrets
import socket

PORTS = range(20000, 30000)
"""Below what Linux gives to outgoing connections and engines to published ports: nobody comes across these."""


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens here; elsewhere that is a guess."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
