"""A container as its engine shows it: state, log, and commands in it."""

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from conformance.engine import exec_stream
from conformance.engine.api_errors import REMEDY, engine_errors
from conformance.errors import EngineError, EngineGone, ImageFailure
from conformance.util.wait import DeadlineExpired, within

COMMAND_SECONDS = 30

ENGINE_SECONDS = 30
"""For the engine's own work, beyond a command's deadline."""


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


class EngineContainer:
    """A container on an engine.

    Args:
        client: the engine.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self.id = ""
        """Empty while there is no container."""
        self.marked = ""
        """The engine's time of the newest line of the log at :meth:`mark`, or of the container's creation."""

    def inspect(self) -> dict[str, Any]:
        """Return the engine's description of the container."""
        with engine_errors():
            return dict(self.client.api.inspect_container(self.id))

    @property
    def name(self) -> str:
        """Return the name that the engine gave the container."""
        return str(self.inspect()["Name"]).lstrip("/")

    @property
    def running(self) -> bool:
        """Return whether the container runs."""
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
        """Remember the end of the log: later checks read only newer lines."""
        self.marked = next((line.partition(" ")[0] for line in self._logged(1)), self.marked)

    def _logged(self, lines: int) -> list[str]:
        with engine_errors():
            logged: bytes = self.client.api.logs(self.id, tail=lines, timestamps=True)
        return logged.decode(errors="replace").splitlines()

    def describe(self) -> str:
        """Return the container's state and the log since :meth:`mark`, for errors."""
        try:
            state = self.inspect()["State"]
            return (
                f"container: {state['Status']}, exit status {state['ExitCode']} {state['Error']}\n"
                f"newest log lines:\n{self.log(new=True) or '(nothing)'}"
            )
        except EngineError as error:
            return str(error)

    def read_file(self, path: str) -> bytes:
        """Return a file's content; the container need not run.

        Raises:
            ImageFailure: there is no such file.
            EngineGone: the engine does not answer.
        """
        with engine_errors():
            try:
                chunks, _ = self.client.api.get_archive(self.id, path)
            except docker.errors.NotFound as error:
                raise ImageFailure(f"the container has no file {path}\n{self.describe()}") from error
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                file = archive.extractfile(archive.getmembers()[0])
                return file.read() if file else b""

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
            raise ImageFailure(f"the command {' '.join(command)} was still running after {seconds} s")
        return ExecResult(status, stdout, stderr)
