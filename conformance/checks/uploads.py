"""Clients that die in the middle of the upload of a volume."""

import select
import subprocess
import sys
from typing import IO, cast

BEGIN_SECONDS = 30
"""From the start of a client to its first byte; a daemon that hangs lets it wait for ever."""

UPLOAD_SECONDS = 1.4
"""From its first byte to its death at the latest: the daemon has data in its hands that are not written yet."""

ENOUGH_BYTES = 2**28
"""It dies earlier, once it has sent so much: over a fast path a whole volume takes less than that time."""

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
enough = left - int(sys.argv[3])
while left:
    left -= stream.send(data[:left])
    if left <= enough:
        print("enough", flush=True)
        enough = -1
"""
"""Run by Python with a libvirt URI, the path of a volume in the container, and how many bytes are enough."""


def die(uri: str, path: str, *, client: str = CLIENT, seconds: float = UPLOAD_SECONDS) -> bool:
    """Let a client in a process of its own begin to upload to a volume, and end it by SIGKILL.

    Args:
        uri: libvirt's.
        path: the volume's, in the container.
        client: the program.
        seconds: from its first byte to its death at the latest.

    Returns:
        Whether it died while it uploaded; not where the daemon never let it begin, or it was done before.
    """
    words = [sys.executable, "-c", client, uri, path, str(ENOUGH_BYTES)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            output = cast("IO[bytes]", process.stdout)
            began = bool(_readable(output, BEGIN_SECONDS) and output.readline())
            # A line says that enough was sent; the end of output, that the client was done before.
            ended = began and _readable(output, seconds) and not output.readline()
            return began and not ended
        finally:
            process.kill()


def _readable(output: IO[bytes], seconds: float) -> bool:
    """Wait until there is something to read, or its end; false if there was neither within so many seconds."""
    return bool(select.select([output], [], [], seconds)[0])
