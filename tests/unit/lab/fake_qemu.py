"""Runs in place of QEMU in the tests of the lab: it emulates nothing, and answers its monitor (QMP).

What it does is told by $QEMU: ``dies`` or ``hangs`` when a saved state is given to it, ``saves-for-ever`` or
``saves-nothing`` when it is asked for one, ``refuses`` to start; else it is a good one.
"""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path

WORDS = sys.argv[1:]
HOW = os.environ.get("QEMU", "")


def answer(order: str, arguments: dict[str, str], state: dict[str, str]) -> object:
    """Do what QEMU would, as far as a lab can tell."""
    if order == "query-status":
        return {"status": state["run"], "running": state["run"] == "running"}
    if order in ("cont", "stop"):
        state["run"] = {"cont": "running", "stop": "paused"}[order]
    elif order == "migrate":
        target = re.fullmatch(r"exec:cat >'(.*)'", arguments["uri"])
        assert target
        Path(target[1]).write_bytes(b"memory")
    elif order == "query-migrate":
        return {"status": {"saves-for-ever": "active", "saves-nothing": "failed"}.get(HOW, "completed")}
    return {}


def main() -> None:
    """Listen at the monitor's socket until told to quit."""
    if "refuses" in HOW:
        sys.exit("qemu: refused")
    incoming = "-incoming" in WORDS
    if incoming and HOW == "dies":
        sys.exit("qemu: Not a migration stream")
    place = WORDS[WORDS.index("-qmp") + 1].removeprefix("unix:").partition(",")[0]
    console = WORDS[WORDS.index("-serial") + 1].removeprefix("file:")
    Path(console).write_text("Linux version\nlab login:\n")
    state = {"run": "paused" if incoming else "running"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        if incoming and HOW == "hangs":
            time.sleep(60)
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as lines:
                lines.write(b'{"QMP": {}}\n')
                lines.flush()
                for line in lines:
                    order = json.loads(line)
                    reply = answer(order["execute"], order["arguments"], state)
                    lines.write(json.dumps({"return": reply}).encode() + b"\n")
                    lines.flush()
                    if order["execute"] == "quit":
                        return


if __name__ == "__main__":
    main()
