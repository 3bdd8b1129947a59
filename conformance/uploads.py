"""Clients that die in the middle of the upload of a volume."""

import contextlib
import select
import subprocess
import sys
from typing import IO, cast

BEGIN_SECONDS = 30
"""From the start of a client to its first byte; a daemon that hangs lets it wait for ever."""

UPLOAD_SECONDS = 1.4
"""From its first byte to its death: the daemon has data in its hands that are not written yet."""

CLIENT = """
import os, sys
import libvirt

connection = libvirt.open(sys.argv[1])
volume = connection.storageVolLookupByPath(sys.argv[2])
stream = connection.newStream(0)
data = os.urandom(2**18)
left = volume.info()[1]
volume.upload(stream, 0, left, 0)
print("begun", flush=True)
while left:
    left -= stream.send(data[:left])
"""
"""Run by Python with a libvirt URI and the path of a volume in the container."""


def die(uri: str, path: str, *, client: str = CLIENT, seconds: float = UPLOAD_SECONDS) -> bool:
    """Let a client in a process of its own begin to upload to a volume, and end it by SIGKILL.

    Args:
        uri: libvirt's.
        path: the volume's, in the container.
        client: the program.
        seconds: from its first byte to its death.

    Returns:
        Whether it died while it uploaded; not where the daemon never let it begin, or it was done before.
    """
    words = [sys.executable, "-c", client, uri, path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            output = cast("IO[bytes]", process.stdout)
            ready, _, _ = select.select([output], [], [], BEGIN_SECONDS)
            began = bool(ready and output.readline())
            if began:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
            return began and process.poll() is None
        finally:
            process.kill()
