"""A program for test_engine_restart: a private engine ends and starts again while a guest runs in a container of it.

    python engine_restart.py FOLDER IMAGE_TAR END

FOLDER is the engine's; END is ``stop`` or ``kill``. It writes what it saw before and afterwards, as JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from conformance.checks import pid_files
from conformance.checks.libvirt_objects import keep, kept
from conformance.container.container import Container
from conformance.engine import labels
from conformance.engine.client import connect
from conformance.engine.local_daemon import PrivateEngine
from conformance.guests.factory import Guests
from conformance.guests.peer_network import PeerNetwork
from conformance.media import probe as probe_media
from conformance.model import contract, mode


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(folder: Path, archive: Path, how: str) -> dict[str, Any]:
    engine = PrivateEngine(folder, say)
    engine.enter()
    try:
        client = connect(engine.host).client
        with archive.open("rb") as tar:
            image = str(client.images.load(tar)[0].id)
        probe = probe_media.ensure(say)
        run = labels.new_run()
        container = Container(client, mode.from_contract(contract.load(), "unprivileged"), image, run=run)
        container.start()
        container.wait_until_ready()
        guests = Guests(container, probe, PeerNetwork(client, probe, run), "tcg", say)
        with guests.autostarted() as guest:
            before = keep(container)
            first = guest.wait_until_up()
            container.disconnect()
            if how == "kill":
                engine._kill_all()  # and what hangs on it, as a crash of the machine would
            engine.leave()
            engine.enter()
            stopped = not container.running
            container.revive()
            second = guest.wait_until_up(after=first)
            after = kept(container)
            found = {
                "stopped": stopped,
                "boots": [report["kept"]["boot"] for report in (first, second)],
                "before": {kind: dataclasses.asdict(one) for kind, one in before.items()},
                "after": {kind: dataclasses.asdict(one) for kind, one in after.items()},
                "default": container.connection.networkLookupByName("default").isActive(),
                "stale": pid_files.stale(container),
            }
        container.stop()
        container.remove()
        return found
    finally:
        engine.leave()


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]), sys.stdout)
