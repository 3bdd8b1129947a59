"""docs/connect.md: its commands run as written, in its order, against a container in the recommended mode.

A comment before a block of the page says what becomes of it:

- ``<!-- tried: PROGRAM... -->``: the shell runs the block; without one of the programs the test is skipped.
  With ``; typed: TEXT`` the block runs on a terminal, TEXT is typed there and has to come back, and ``^]`` ends it.
- ``<!-- file: NAME -->``: the block is the file of that name in the folder where the commands run.

Only names and ports that a machine may use already are replaced: the container's name, the published ports, the Docker
network, the folder of the socket, the engine's address, and the user and the free port of the SSH tunnel.
"""

import getpass
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pycdlib
import pytest

from conformance.engine import client, image, labels
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.util import paths
from conformance.util.ports import free_port
from conformance.util.wait import wait_for

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

pytestmark = pytest.mark.timeout(120)

PAGE = paths.PROJECT / "docs" / "connect.md"
MARKED = re.compile(
    r"<!-- (?P<mark>tried|file): (?P<what>[^;\n]+?)(?:; typed: (?P<typed>.+?))? -->\n"
    r"```\w*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
BLOCK_SECONDS = 90

ECHO_AND_OBEY = bytes.fromhex(
    "ba0206 b80001 ef"  # out 0x602, 0x100: enable the power button's event
    "fb f4"  # wait for an interrupt
    "ba0006 ed f6c401 750f"  # 0x600 has the event: go to the end
    "bafd03 ec a801 74ed"  # the serial port has no byte: go back to the wait
    "baf803 ec ee ebe6"  # send the byte back, and go back to the wait
    "ba0406 b80020 ef"  # out 0x604, 0x2000: sleep state S5
    "f4 ebfd"
)
"""A boot sector that echoes its serial port and powers off on the ACPI power button: a guest with a console in 2 s."""


@dataclass(frozen=True)
class Block:
    """A marked block of the page."""

    mark: str
    what: str
    typed: str
    text: str

    @property
    def programs(self) -> list[str]:
        return self.what.split()


BLOCKS = [
    Block(**{key: value or "" for key, value in found.groupdict().items()})
    for found in MARKED.finditer(PAGE.read_text())
]
TRIED = [block for block in BLOCKS if block.mark == "tried"]


@dataclass(frozen=True)
class Site:
    """Where the page's commands run.

    Attributes:
        folder: the working directory, with the page's files and the media.
        environment: the commands' environment.
        replaced: replacement by pattern, for what a machine may use already.
    """

    folder: Path
    environment: dict[str, str]
    replaced: dict[str, str]

    def adapt(self, text: str) -> str:
        """Replace names and ports."""
        for pattern, replacement in self.replaced.items():
            text = re.sub(pattern, replacement, text)
        return text


@pytest.fixture(scope="module")
def site(sshd: "Sshd") -> Iterator[Site]:
    """A container in the page's mode, with the published VNC port and the mounted socket that the page offers."""
    if missing := [program for program in ("docker", "qemu-img") if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    engine = client.connect()
    if "selinux" in engine.fingerprint().security:
        pytest.skip("mode least, in which the page was tried, is for hosts without SELinux")
    if not engine.host.startswith("unix://"):
        pytest.skip("needs an engine of this machine: ports on its loopback address and one of its folders are used")
    run = labels.new_run()
    name = f"connect-{run}"
    tag = image.ensure_image(engine, lambda _text: None).tag
    api = engine.client.api
    without = [] if Path("/dev/kvm").exists() else ["dev-kvm"]
    given = mode.from_contract(contracts.load(), "least", without)
    volumes = {api.create_volume(labels={labels.RUN: run})["Name"]: path for path in given.volumes.values()}
    with tempfile.TemporaryDirectory(prefix="connect-", dir="/tmp") as made:
        folder = Path(made)
        (folder / "socket").mkdir()
        body = given.engine_call(tag, volumes=volumes, labels={labels.RUN: run}, host_port=0)
        body["ExposedPorts"]["5900/tcp"] = {}
        body["HostConfig"]["PortBindings"]["5900/tcp"] = [{"HostIp": "127.0.0.1", "HostPort": ""}]
        body["HostConfig"]["Binds"].append(f"{folder}/socket:/run/libvirt")
        try:
            container = api.create_container_from_config(body, name)["Id"]  # type: ignore[no-untyped-call]
            api.start(container)
            wait_for("libvirt", lambda: b"libvirt answers on" in api.logs(container), seconds=60)
            found = api.inspect_container(container)
            ports = {key: value[0]["HostPort"] for key, value in found["NetworkSettings"]["Ports"].items() if value}
            site = Site(
                folder,
                os.environ
                | {
                    "DOCKER_HOST": engine.host,
                    "HOME": str(folder),
                    "LIBVIRT_DEFAULT_URI": f"qemu+tcp://127.0.0.1:{ports[f'{given.port}/tcp']}/system",
                    "PATH": f"{sshd.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                },
                {
                    r"\b16510\b": str(free_port()),
                    rf"\bjoe@{re.escape(sshd.NAME)}": f"{getpass.getuser()}@{sshd.NAME}",
                    rf"127\.0\.0\.1:{given.port}": f"127.0.0.1:{ports[f'{given.port}/tcp']}",
                    r"(?<=<)/dev/tcp/127\.0\.0\.1/5900$": f"/dev/tcp/127.0.0.1/{ports['5900/tcp']}",
                    r'(?<=--interactive )libvirt\b|(?<="\$networks" )libvirt\b': name,
                    r"(?<=connect machines )libvirt\b|(?<=//)libvirt(?=:)": name,
                    r"\bmachines\b": name,
                    r"/srv/libvirt/": f"{folder}/socket/",
                    r"unix:///var/run/docker\.sock": engine.host,
                },
            )
            _write_media(folder)
            for block in BLOCKS:
                if block.mark == "file":
                    (folder / block.what).write_text(site.adapt(block.text))
            yield site
        finally:
            for one in api.containers(all=True, filters={"label": f"{labels.RUN}={run}"}):
                api.remove_container(one["Id"], v=True, force=True)
            for network in api.networks(names=[name]):
                api.remove_network(network["Id"])
            for volume in volumes:
                api.remove_volume(volume)


def _write_media(folder: Path) -> None:
    """Write the media that the page uploads: a small guest as ISO, and an empty disk."""
    iso = pycdlib.PyCdlib()
    iso.new()
    iso.add_fp(io.BytesIO(ECHO_AND_OBEY.ljust(2048, b"\0")), 2048, "/BOOT.;1")
    iso.add_eltorito("/BOOT.;1")
    iso.write(str(folder / "guest.iso"))
    iso.close()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "cloud.qcow2", "64M"], check=True)


def test_every_command_of_the_page_is_marked_or_called_untried() -> None:
    shell_blocks = PAGE.read_text().count("```sh\n")
    files = [block for block in BLOCKS if block.what == "libvirt-exec"]

    assert len(TRIED) >= 20
    assert shell_blocks - len(TRIED) - len(files) == 4, "virt-manager, Terraform, Vagrant, SSH into a guest"


@pytest.mark.parametrize("block", TRIED, ids=[block.text.partition("\n")[0][:50] for block in TRIED])
def test_the_command_runs_as_written(site: Site, block: Block) -> None:
    missing = [one for one in block.programs if not shutil.which(one, path=site.environment["PATH"])]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    script = site.folder / "block.sh"
    script.write_text(f"set -eu\n{site.adapt(block.text)}")
    command = ["bash", str(script)]
    if block.typed:
        keys = f"(sleep 2; printf %s '{block.typed}'; sleep 2; printf '\\035')"
        command = ["bash", "-c", f"{keys} | script --quiet --return --command 'bash {script}' /dev/null"]

    done = subprocess.run(
        command,
        cwd=site.folder,
        env=site.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    if "domstate" in block.text:
        assert "running" not in done.stdout
    if "list --all" in block.text:
        assert re.search(r"Id +Name +State", done.stdout), done.stdout
    if "/5900" in block.text:
        assert "RFB 003" in done.stdout, "no VNC server answered"
    if block.typed:
        assert done.stdout.count(block.typed) == 1, f"the guest does not echo: {done.stdout}"
