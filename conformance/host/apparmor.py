"""The project's own AppArmor profiles, and the kernel of the engine's host, which has to know them.

They are loaded by the host's own ``apparmor_parser``, with which Docker loads its profile, too.
"""

from collections.abc import Mapping
from typing import Any

import docker

from conformance.engine import labels, one_shot
from conformance.engine.api_errors import engine_errors
from conformance.errors import Unsupported
from conformance.util import paths

FOLDER = paths.IMAGE / "apparmor"

LOAD = r"""
! grep -qs "^$1 " /host/sys/kernel/security/apparmor/profiles || echo known
printf %s "$2" | chroot /host apparmor_parser --replace && echo loaded
"""

UNLOAD = r"""
grep -qs "^$1 " /host/proc/[0-9]*/attr/current || printf %s "$2" | chroot /host apparmor_parser --remove
"""
"""Unless somebody is confined by it, as another run's container is: without it, he would be confined by nothing."""


def load(client: docker.DockerClient, image: str, run: str, name: str) -> None:
    """Load a profile, in place of one of that name.

    An empty volume remembers one that was not there, so that it is taken away whatever becomes of this process
    (:func:`conformance.run.cleanup.remove`).

    Args:
        client: the engine.
        image: an image with chroot and sh: the image under test has them.
        run: the run's id, for the label.
        name: the profile's, and its file's.

    Raises:
        Unsupported: the host does not take it.
        EngineError: the engine refused.
    """
    marks = {labels.RUN: run, labels.IMAGE: image, labels.PROFILE: name}
    with engine_errors():
        volume = client.api.create_volume(labels=marks)["Name"]
    said = _run(client, image, run, LOAD, name).split()
    if "loaded" not in said or "known" in said:
        with engine_errors():
            client.api.remove_volume(volume)
    if "loaded" not in said:
        raise Unsupported(f"the engine's host does not load the AppArmor profile {name}: {' '.join(said)}")


def unload(client: docker.DockerClient, marks: Mapping[str, str]) -> None:
    """Take a profile away, if nobody is confined by it; raises EngineError where the engine refused.

    Args:
        client: the engine.
        marks: the labels of the volume that remembers it.
    """
    _run(client, marks[labels.IMAGE], marks[labels.RUN], UNLOAD, marks[labels.PROFILE])


def _run(client: docker.DockerClient, image: str, run: str, script: str, name: str) -> str:
    command = ["sh", "-c", script, "sh", name, (FOLDER / name).read_text(encoding="utf-8")]
    options: dict[str, Any] = {
        "network_mode": "none",
        "binds": ["/:/host"],
        "cap_add": ["MAC_ADMIN"],
        "security_opt": ["apparmor=unconfined"],
    }
    with engine_errors():
        return one_shot.output(client, image, command, run=run, **options)
