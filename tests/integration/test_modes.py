"""What ./run prints for a reader and what the harness asks of the engine are the same container.

But for one thing: the engine starts the reader's again by itself.
"""

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.engine import client, image, labels
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.errors import Unsupported
from conformance.host import char_devices
from conformance.model import commands, mode
from conformance.model import contract as contracts

MODES = [claims.id for claims in contracts.load().modes]

SET_BY_A_MODE = (
    "Privileged CapAdd CapDrop Devices SecurityOpt CgroupnsMode NetworkMode"
    " MaskedPaths ReadonlyPaths PortBindings Binds DeviceCgroupRules Ulimits"
).split()

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("docker"), reason="Docker's command line is not installed"),
]


@pytest.fixture(scope="module")
def where() -> Engine:
    return client.connect()


@pytest.fixture(scope="module")
def tag(where: Engine) -> str:
    return image.ensure_image(where, lambda _text: None).tag


@pytest.fixture
def created(where: Engine) -> Iterator[list[str]]:
    """Ids of containers; removed with their volumes at the end."""
    ids: list[str] = []
    yield ids
    for one in ids:
        where.client.api.remove_container(one, v=True, force=True)
    for volume in mode.from_contract(contracts.load(), MODES[0]).volumes:
        where.client.api.remove_volume(volume, force=True)


def set_by_mode(inspected: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a mode sets.

    An empty list and none mean the same, but for masked paths; newer command lines sort capabilities and put CAP_
    before them.
    """
    fields = {key: inspected["HostConfig"].get(key) for key in SET_BY_A_MODE}
    for key in ("CapAdd", "CapDrop", "Devices", "SecurityOpt", "Binds", "PortBindings", "DeviceCgroupRules", "Ulimits"):
        fields[key] = fields[key] or []
    fields["Binds"] = sorted(fields["Binds"])
    fields["CapAdd"] = sorted(name.removeprefix("CAP_") for name in fields["CapAdd"])
    environment = [line for line in inspected["Config"]["Env"] if line.startswith(("LISTEN_ADDRESS=", "MACVTAP="))]
    return fields | {"environment": sorted(environment), "stop": inspected["Config"]["StopTimeout"]}


@pytest.mark.parametrize("name", MODES)
def test_the_rendered_line_and_the_engine_call_make_the_same_container(
    where: Engine, tag: str, created: list[str], name: str
) -> None:
    one = mode.from_contract(contracts.load(), name)
    try:
        one = dataclasses.replace(
            one, majors=char_devices.majors(HostShell(where.client, tag, labels.new_run()), one.drivers)
        )
    except Unsupported as error:
        pytest.skip(str(error))
    # No device is opened before a container is started.
    one = dataclasses.replace(one, groups=("/dev/vfio/7",) if one.vfio else ())
    call = one.engine_call(tag, volumes=one.volumes)
    created.append(where.client.api.create_container_from_config(call)["Id"])  # type: ignore[no-untyped-call]
    line = commands.shell(["docker", "create", *commands.docker_run(one, tag, name=f"conformance-test-{name}")[3:]])
    environment = {**os.environ, "VFIO_GROUP": "7"}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=True)
    created.append(done.stdout.strip())

    by_call, by_line = (set_by_mode(where.client.api.inspect_container(one)) for one in created)

    assert by_line == by_call
    # Both "no" and nothing stand for never.
    call_again, line_again = (
        where.client.api.inspect_container(one)["HostConfig"]["RestartPolicy"]["Name"] or "no" for one in created
    )
    assert call_again == "no"
    assert line_again == (commands.RESTART if one.restarts else "no")
