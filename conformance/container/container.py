"""The container under test: its whole life, from the engine call to nothing left behind."""

import contextlib
import dataclasses
import re
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import docker
import docker.errors
import libvirt

from conformance.container import effective_state, libvirt_connection
from conformance.engine import exec_stream, labels
from conformance.engine.api_errors import REMEDY, engine_errors
from conformance.errors import EngineError, EngineGone, ImageFailure, ImageLate, Unsupported
from conformance.model.exposure import Device
from conformance.model.mode import STOP_TIMEOUT, Mode
from conformance.util import signals
from conformance.util.wait import DeadlineExpired, for_image, wait_for, within

if TYPE_CHECKING:
    from conformance.engine.port_relay import Relay

READY_SECONDS = 60
"""From the container's start to libvirt's first answer; generous, since a verdict depends on it."""

OPEN_SECONDS = 15
"""For one try to open a connection: what listens and does not answer must not use up the whole wait."""

CLOSE_SECONDS = 5
"""A daemon that hangs does not confirm the end of a connection."""

COMMAND_SECONDS = 30

ENGINE_SECONDS = 30
"""What the engine may need beside a command's own deadline."""

PORT_TAKEN = re.compile(r"Address already in use", re.IGNORECASE)

PORTS = range(20000, 30000)
"""Below what Linux gives to outgoing connections and engines to published ports: nobody comes across these."""

CANNOT_GRANT = re.compile(
    r"unable to apply caps: operation not permitted|error setting rlimit type \d+: operation not permitted",
    re.IGNORECASE,
)
"""Docker before 23 refuses --privileged where its own root lacks a capability, and any Docker refuses to lift a limit
where its root lacks SYS_RESOURCE."""

NO_DEVICE = re.compile(r'gathering device information while adding custom device "(?P<path>[^"]+)": no such file')


WARNING = " warning entrypoint: "
"""In a line of the log: what the image's start-up says of a step that the mode does not allow."""

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp (include/net/tcp_states.h)."""

ENGINES_DNS = "0B00007F:"
"""127.0.0.11 in /proc/net/tcp, where the engine answers for names on networks that were made by a user."""

STALE = """
for file in /run/libvirt/qemu/*.pid; do
    [ ! -e "$file" ] || grep -q "^qemu\\|^libvirtd\\|^virt" "/proc/$(cat "$file")/comm" || echo "$file"
done
"""


@dataclass(frozen=True)
class ExecResult:
    """A command that ended in a container: its exit status and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Return standard output as text."""
        return self.stdout.decode(errors="replace")


class Container:
    """A container of the image under test, in one mode.

    Args:
        client: the engine.
        mode: how it may touch its host.
        image: the image's tag or id.
        run: the run's id, for the label.
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
        self.client = client
        self.mode = mode
        self.image = image
        self.ready_seconds = ready_seconds
        self._any_port = port is None and mode.host_network and bool(mode.image.port_variable)
        self.port = free_port() if self._any_port else port or mode.port
        self.absent: list[str] = []
        """Devices that the mode exposes and the host does not have."""
        self.marked = ""
        """Since when the present question is asked: the engine's time of the newest line of the log, or of creation."""
        self.warnings: list[str] = []
        """What the image said at its last start of what the mode does not allow."""
        self.id = ""
        self._connection: libvirt.virConnect | None = None
        self._labels = {labels.RUN: run}
        self._volumes: dict[str, str] = {}
        self._network = network
        self._relay = relay
        self._health_seconds = health_seconds

    # ------------------------------------------------------------------------------------- life

    def start(self) -> "Container":
        """Create the container if there is none, and start it.

        A device that the host does not have is left out and noted in :attr:`absent`: what needs it is judged
        on its own, and the rest of the mode can still be asked.

        Raises:
            Unsupported: the engine cannot grant what the mode asks for.
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
                    if CANNOT_GRANT.search(reason):
                        raise Unsupported(
                            "the engine cannot grant what the mode asks for: its own root lacks a capability"
                            f" ({reason.strip()})"
                        ) from error
                    raise EngineError(f"the engine does not start the container: {reason.strip()}") from error
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
            self._volumes = {self._make_volume(): path for path in self.mode.volumes.values()}
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
        created = self.client.api.create_container_from_config(body)  # type: ignore[no-untyped-call]
        self.id = str(created["Id"])
        self.marked = str(self.inspect().get("Created", ""))

    def _make_volume(self) -> str:
        return str(self.client.api.create_volume(labels=self._labels)["Name"])

    def wait_until_ready(self, seconds: float | None = None) -> "libvirt.virConnect":
        """Wait until libvirt answers on the published port.

        Args:
            seconds: deadline; by default what the container was given.

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
        """Say why a connection over there failed, in a line: libvirt's client here saw only that it ended."""
        return f"{self._relay.said}\n" if self._relay and self._relay.said else ""

    def _ports(self) -> str:
        """Say on which ports the container listens, in a line; empty where that is not known."""
        if self.mode.host_network:
            return ""  # they are everybody's
        try:
            tables = self.run("cat", "/proc/net/tcp", "/proc/net/tcp6", seconds=5).text
        except (EngineError, ImageFailure):
            return ""
        listening = [row[1] for row in map(str.split, tables.splitlines()) if row[3:4] == [LISTEN]]
        ports = {int(one.rpartition(":")[2], 16) for one in listening if not one.startswith(ENGINES_DNS)}
        found = ", ".join(map(str, sorted(ports))) or "no port"
        return f"asked for on port {self.port}; the container listens on {found}\n"

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
        """Ask the container to end by SIGTERM, and kill it after ``seconds``; returns its exit status."""
        self.disconnect()
        if not self.id:
            return 0
        with engine_errors():
            self.client.api.stop(self.id, timeout=seconds)
        return self.exit_status

    def kill(self) -> None:
        """End the container by SIGKILL, as a crash of its host would."""
        self.disconnect()
        with engine_errors():
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

    def inspect(self) -> dict[str, Any]:
        """Return what the engine says of the container."""
        with engine_errors():
            return dict(self.client.api.inspect_container(self.id))

    @property
    def name(self) -> str:
        """Return the name that the engine gave the container."""
        return str(self.inspect()["Name"]).lstrip("/")

    @property
    def running(self) -> bool:
        """Say whether the engine sees the container running."""
        return bool(self.inspect()["State"]["Running"])

    @property
    def exit_status(self) -> int:
        """Return the status with which the container ended; 0 while it runs."""
        return int(self.inspect()["State"]["ExitCode"])

    @property
    def address(self) -> str:
        """Return the container's IPv4 address on its bridge network; empty in the host's network."""
        networks = self.inspect()["NetworkSettings"]["Networks"].values()
        return next((str(network["IPAddress"]) for network in networks if network["IPAddress"]), "")

    @property
    def api_addresses(self) -> frozenset[str]:
        """Return the host's addresses on which the API can be reached."""
        if not self.mode.host_network:
            published = self.inspect()["NetworkSettings"]["Ports"].get(f"{self.port}/tcp") or []
            return frozenset(one["HostIp"] for one in published)
        listening = self.run("ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = {self.port}").text
        return frozenset(line.split()[3].rpartition(":")[0] for line in listening.splitlines())

    @property
    def uri(self) -> str:
        """Return the libvirt URI under which the API is published on the loopback address of the engine's host."""
        port = str(self.port)
        if not self.mode.host_network:
            published = self.inspect()["NetworkSettings"]["Ports"].get(f"{self.port}/tcp")
            # A container that has ended has no published port; the wait then says that it ended.
            port = published[0]["HostPort"] if published else port
        if self._relay:
            return f"qemu+unix://{self.mode.image.path}?socket={quote(str(self._relay.socket_to(int(port))))}"
        return f"qemu+tcp://127.0.0.1:{port}{self.mode.image.path}"

    def log(self, lines: int = 30, *, new: bool = False) -> str:
        """Return the newest lines of the container's log: the image's start-up and libvirtd.

        Args:
            lines: as many at most.
            new: only what was written after :meth:`mark`.
        """
        # The engine's own time stands before each line; of fixed width, it sorts as text does.
        stamped = [line.partition(" ") for line in self._logged(lines)]
        return "\n".join(text for stamp, _, text in stamped if not new or stamp > self.marked)

    def mark(self) -> None:
        """Remember how far the log is: what is in it already says nothing of what is asked next."""
        self.marked = next((line.partition(" ")[0] for line in self._logged(1)), self.marked)

    def _logged(self, lines: int) -> list[str]:
        with engine_errors():
            logged: bytes = self.client.api.logs(self.id, tail=lines, timestamps=True)
        return logged.decode(errors="replace").splitlines()

    def describe(self) -> str:
        """Say what the engine shows, and the log since :meth:`mark`; for errors."""
        try:
            state = self.inspect()["State"]
            return (
                f"the engine says: {state['Status']}, exit status {state['ExitCode']} {state['Error']}\n"
                f"newest log lines:\n{self.log(new=True) or '(nothing)'}"
            )
        except EngineError as error:
            return str(error)

    def run(self, *command: str, seconds: int = COMMAND_SECONDS, user: str = "") -> ExecResult:
        """Run a command in the container.

        Args:
            command: its words; no shell.
            seconds: deadline; the engine's own exec call has none.
            user: whose process it is, by name or number; the image's own choice if empty.

        Raises:
            ImageFailure: the container is not running, or the command outlived its deadline.
            EngineGone: the engine does not answer.
        """
        with engine_errors():
            try:
                created = self.client.api.exec_create(
                    self.id, ["timeout", "-k", "1", str(seconds), *command], user=user
                )
                stdout, stderr = within(
                    "the engine to run a command",
                    lambda: exec_stream.output(self.client, created["Id"]),
                    seconds=seconds + ENGINE_SECONDS,
                )
                status = int(self.client.api.exec_inspect(created["Id"])["ExitCode"])
            except docker.errors.APIError as error:
                raise ImageFailure(
                    f"{' '.join(command)}: cannot run in the container: {error.explanation}\n{self.describe()}"
                ) from error
            except DeadlineExpired as error:
                raise EngineGone(error.message, REMEDY) from error
        if status in (124, 137):
            raise ImageFailure(f"{' '.join(command)}: still running after {seconds} s")
        return ExecResult(status, stdout, stderr)

    def health_check(self, *, port: int | None = None) -> ExecResult:
        """Run the image's own health check, as the engine does.

        Args:
            port: where it looks for the API, if not where that is.

        Raises:
            ImageFailure: the image has none, or it outlived its deadline.
        """
        check = list((self.inspect()["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"])
        kind, words = check[0], check[1:]
        if kind == "NONE":
            raise ImageFailure("the image has no health check")
        # "CMD-SHELL" has one word, for a shell (Docker's API, HealthConfig).
        words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        told = [f"{self.mode.image.port_variable}={port}"] if port else []
        return self.run("env", *told, *words)

    def stale(self) -> list[str]:
        """Return the files in which libvirt keeps the IDs of QEMU's and its own processes that are not there."""
        return self.run("sh", "-c", STALE).text.split()

    def state(self) -> effective_state.State:
        """Read what the container may really do."""
        mode = self.mode
        asked = (*mode.devices, *mode.groups, *map(str, mode.majors.values()))
        done = self.run("sh", "-c", effective_state.SCRIPT, "sh", *asked)
        return effective_state.parse(done.text, self.id)

    def verify(self, *, cgroup_version: int, security: Collection[str]) -> None:
        """Compare the container with its mode before any cell counts.

        Raises:
            Unsupported: the engine granted less than was asked for.
            EngineError: it granted more, so that results would be too good.
        """
        found = [
            difference
            for difference in effective_state.compare(
                self.mode, self.state(), cgroup_version=cgroup_version, security=security
            )
            if difference.what not in self.absent
        ]
        if not found:
            return
        text = "; ".join(difference.text for difference in found)
        if all(difference.lacking for difference in found):
            raise Unsupported(f"the container is less than mode {self.mode.id} declares: {text}")
        raise EngineError(
            f"the container is not what mode {self.mode.id} declares: {text}",
            "look for an engine configuration that changes what containers get, such as default capabilities",
        )


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens here; elsewhere that is a guess."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
