"""The container under test: its life from creation to removal, and the connection to libvirt in it."""

import contextlib
import dataclasses
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import docker
import docker.errors
import libvirt

from conformance.container import libvirt_connection
from conformance.container.engine_container import COMMAND_SECONDS, EngineContainer
from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.refusals import NO_DEVICE, ungranted
from conformance.errors import EngineError, ImageFailure, ImageLate, Unsupported
from conformance.model.exposure import Device
from conformance.model.mode import STOP_TIMEOUT, Mode
from conformance.util import signals
from conformance.util.ports import free_port
from conformance.util.wait import DeadlineExpired, for_image, wait_for, within

if TYPE_CHECKING:
    from conformance.engine.port_relay import Relay

LOG = logging.getLogger(__name__)

READY_SECONDS = 60
"""From the container's start to libvirt's first answer; generous, since a verdict depends on it."""

OPEN_SECONDS = 15
"""For one try to open a connection: a listener that does not answer must not use up the whole wait."""

CLOSE_SECONDS = 5
"""A daemon that hangs does not confirm the end of a connection."""

PORT_TAKEN = re.compile(r"Address already in use", re.IGNORECASE)

WARNING = " warning entrypoint: "
"""Marks a line of the log about a step of the image's start-up that the mode does not allow."""

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h)."""

ENGINES_DNS = "0B00007F:"
"""127.0.0.11 in /proc/net/tcp: the engine's DNS server on networks that a user made."""


class Container(EngineContainer):
    """A container of the image under test, in one mode.

    Args:
        client: the engine.
        mode: how it may touch its host.
        image: the image's tag or id.
        run: the run's id, for names and labels.
        network: the bridge network to be on; ignored in the host's network.
        port: the API's port; by default the contract's, and in the host's network, where that may be another
            libvirt's, a free one, chosen anew if somebody else is quicker to take it.
        ready_seconds: from the start to libvirt's first answer.
        relay: the way to ports of the engine's host; none where that is this machine.
        health_seconds: between two runs of the image's health check by the engine; the image's own by default.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        mode: Mode,
        image: str,
        *,
        run: str,
        network: str = "default",
        port: int | None = None,
        ready_seconds: float = READY_SECONDS,
        relay: "Relay | None" = None,
        health_seconds: float | None = None,
    ) -> None:
        super().__init__(client)
        self.mode = mode
        self.image = image
        self.ready_seconds = ready_seconds
        self._any_port = port is None and mode.host_network and bool(mode.image.port_variable)
        self.port = free_port() if self._any_port else port or mode.port
        self.absent: list[str] = []
        """Devices that the mode exposes and the host does not have."""
        self.warnings: list[str] = []
        """Warnings of the image's last start about steps that the mode does not allow."""
        self._connection: libvirt.virConnect | None = None
        self._run = run
        self._labels = {labels.RUN: run}
        self._volumes: dict[str, str] = {}
        self._network = network
        self._relay = relay
        self._health_seconds = health_seconds

    # ------------------------------------------------------------------------------------- life

    def start(self) -> "Container":
        """Create the container if there is none, and start it.

        A device that the host lacks is left out and added to :attr:`absent`: features that need it get verdicts of
        their own, and the rest of the mode is still tested.

        Raises:
            Unsupported: the engine cannot grant the mode's privileges.
            EngineError: the engine refused for another reason, or is gone.
        """
        with engine_errors():
            while True:
                if not self.id:
                    with signals.deferred():
                        self._create()
                try:
                    self.client.api.start(self.id)
                except docker.errors.APIError as error:
                    reason = error.explanation or str(error)
                    missing = NO_DEVICE.search(reason)
                    self._remove_container()
                    if missing and missing["path"] not in self.absent:
                        self.absent.append(missing["path"])
                        continue
                    if ungranted(reason):
                        raise Unsupported(ungranted(reason)) from error
                    raise EngineError(
                        f"the engine does not start the container: {reason.strip()}", "read the engine's log"
                    ) from error
                return self

    def _create(self) -> None:
        exposures = tuple(
            exposure
            for exposure in self.mode.exposures
            if not (isinstance(exposure, Device) and exposure.path in self.absent)
        )
        mode = dataclasses.replace(self.mode, exposures=exposures)
        if not self._volumes:
            # Volumes of a known name and label: a new container can be put on them, and they are found again.
            self._volumes = {self._make_volume(name): path for name, path in self.mode.volumes.items()}
        body = mode.engine_call(
            self.image,
            environment={self.mode.image.port_variable: str(self.port)} if self.port != self.mode.port else {},
            volumes=self._volumes,
            labels=self._labels,
            network=self._network,
            host_port=0,
            port=self.port,
            health_seconds=self._health_seconds,
        )
        name = names.new(self._run, self.mode.id)
        created = self.client.api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]
        self.id = str(created["Id"])
        LOG.info("created container %s (%.12s) of %s on port %d", name, self.id, self.image, self.port)
        self.marked = str(self.inspect().get("Created", ""))

    def _make_volume(self, purpose: str) -> str:
        name = names.new(self._run, f"{self.mode.id}-{purpose}", longest=names.VOLUME)
        return str(self.client.api.create_volume(name, labels=self._labels)["Name"])

    def wait_until_ready(self, seconds: float | None = None) -> "libvirt.virConnect":
        """Wait until libvirt answers on the published port.

        Args:
            seconds: deadline; by default :attr:`ready_seconds`.

        Raises:
            ImageFailure: the container ended before libvirt answered.
            ImageLate: libvirt never answered.
        """
        deadline = self.ready_seconds if seconds is None else seconds
        last = ""

        def ask() -> "libvirt.virConnect | None":
            nonlocal last
            if not self.running:
                if self._any_port and PORT_TAKEN.search(self.log()):
                    self._take_another_port()
                    return None
                raise ImageFailure(f"the container ended before libvirt answered\n{self.describe()}")
            try:
                return libvirt_connection.connect(self.uri, seconds=min(OPEN_SECONDS, deadline))
            except (libvirt.libvirtError, DeadlineExpired) as error:
                last = error.message if isinstance(error, DeadlineExpired) else str(error)
                return None

        self.disconnect()
        try:
            with for_image():
                self._connection = wait_for(
                    f"libvirt to answer at {self.uri}",
                    ask,
                    seconds=deadline,
                    interval=0.05,
                    seen=lambda: f"{last}\n{self._relayed()}{self._ports()}{self.describe()}",
                )
        finally:
            self.warnings = [line.partition(WARNING)[2] for line in self.log(100).splitlines() if WARNING in line]
        return self._connection

    def _take_another_port(self) -> None:
        self._remove_container()
        self.port = free_port()
        self.start()

    def _relayed(self) -> str:
        """Return why the relay's connection failed, in a line: libvirt's client saw only that it ended."""
        return f"{self._relay.said}\n" if self._relay and self._relay.said else ""

    def _ports(self) -> str:
        """Return the ports on which the container listens, in a line; empty where unknown."""
        if self.mode.host_network:
            return ""  # the ports of the whole host
        try:
            tables = self.run("cat", "/proc/net/tcp", "/proc/net/tcp6", seconds=5).text
        except (EngineError, ImageFailure):
            return ""
        listening = [row[1] for row in map(str.split, tables.splitlines()) if row[3:4] == [LISTEN]]
        ports = {int(one.rpartition(":")[2], 16) for one in listening if not one.startswith(ENGINES_DNS)}
        found = ", ".join(map(str, sorted(ports))) or "no port"
        return f"expected port {self.port}; the container listens on {found}\n"

    @property
    def connection(self) -> "libvirt.virConnect":
        """Return the open connection, opening it first where there is none or it was lost.

        Raises:
            ImageFailure: the container is not running.
            ImageLate: libvirt does not answer.
        """
        if self._connection is not None and self._connection.isAlive():
            return self._connection
        return self.wait_until_ready()

    def revive(self) -> None:
        """Start the container again if it has ended, or if libvirt in it no longer answers; its guests are lost.

        Raises:
            ImageFailure: it ended before libvirt answered.
            ImageLate: libvirt does not answer after the start either.
        """
        if self.running:
            if self._connection is not None and self._connection.isAlive():
                return
            with contextlib.suppress(ImageLate):
                self.wait_until_ready(OPEN_SECONDS)
                return
            with engine_errors():
                self.client.api.kill(self.id)
        self.start()
        self.wait_until_ready()

    def disconnect(self) -> None:
        """Close the connection; guests that were started to live as long as it are destroyed."""
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError, DeadlineExpired):
                within("the connection to close", self._connection.close, seconds=CLOSE_SECONDS)
            self._connection = None

    def stop(self, seconds: int = STOP_TIMEOUT) -> int:
        """End the container by SIGTERM, or by SIGKILL after ``seconds``; return its exit status."""
        self.disconnect()
        if not self.id:
            return 0
        with engine_errors():
            self.client.api.stop(self.id, timeout=seconds)
        LOG.info("stopped container %.12s: exit status %d", self.id, self.exit_status)
        return self.exit_status

    def kill(self) -> None:
        """End the container by SIGKILL, as a crash of its host would."""
        self.disconnect()
        with engine_errors():
            LOG.info("killing container %.12s", self.id)
            self.client.api.kill(self.id)
            self.client.api.wait(self.id, timeout=COMMAND_SECONDS)

    def renew(self) -> None:
        """Put a new container on the same volumes, and wait until libvirt answers.

        Raises:
            ImageFailure: it ended before libvirt answered.
            ImageLate: libvirt never answered.
        """
        self.stop()
        self._remove_container()
        self.start()
        self.wait_until_ready()

    def remove(self) -> None:
        """Remove the container and its volumes; does nothing where there is none."""
        self._remove_container()
        with engine_errors():
            for volume in self._volumes:
                with contextlib.suppress(docker.errors.NotFound):
                    self.client.api.remove_volume(volume, force=True)
        self._volumes = {}

    def _remove_container(self) -> None:
        self.disconnect()
        if self.id:
            with engine_errors(), contextlib.suppress(docker.errors.NotFound):
                self.client.api.remove_container(self.id, v=True, force=True)
            self.id = ""

    # ------------------------------------------------------------------------------------- state

    @property
    def api_addresses(self) -> frozenset[str]:
        """Return the host's addresses on which the API can be reached."""
        if not self.mode.host_network:
            published = self.inspect()["NetworkSettings"]["Ports"].get(f"{self.port}/tcp") or []
            return frozenset(one["HostIp"] for one in published)
        listening = self.run("ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = {self.port}").text
        return frozenset(line.split()[3].rpartition(":")[0] for line in listening.splitlines())

    @property
    def host_port(self) -> int:
        """Return the port of the engine's host that leads to the API."""
        published = None
        if not self.mode.host_network:
            published = self.inspect()["NetworkSettings"]["Ports"].get(f"{self.port}/tcp")
        # A container that has ended has no published port; the wait then says that it ended.
        return int(published[0]["HostPort"]) if published else self.port

    @property
    def uri(self) -> str:
        """Return the libvirt URI under which the API is published on the loopback address of the engine's host."""
        if self._relay:
            return f"qemu+unix://{self.mode.image.path}?socket={quote(str(self._relay.socket_to(self.host_port)))}"
        return f"qemu+tcp://127.0.0.1:{self.host_port}{self.mode.image.path}"
