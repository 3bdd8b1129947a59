"""Scripts on the engine's host: each runs in a container of its own, which is removed afterwards."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors

from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.util import signals

LOG = logging.getLogger(__name__)

SECONDS = 60


@dataclass(frozen=True)
class HostShell:
    """A shell on an engine's host, with the tools of an image.

    A container has no network unless an option says otherwise (``network_mode``). Options are those of docker-py's
    ``create_host_config``.

    Attributes:
        client: the engine.
        image: the image's tag or id; the image under test has all tools that the harness needs.
        run_id: id of the run, for the label of each container.
        interpreter: the image's shell.
    """

    client: docker.DockerClient
    image: str
    run_id: str
    interpreter: Sequence[str] = ("sh",)

    def run(self, script: str, *arguments: str, seconds: int = SECONDS, **options: Any) -> str:
        """Run a script and return its output, of both streams.

        Args:
            script: shell commands.
            arguments: the script's ``$1``, ``$2`` and so on.
            seconds: deadline.
            options: of the container.

        Raises:
            EngineGone: the engine is gone, or the script was still running at the deadline.
            EngineError: the engine refused.
        """
        return self.output([*self.interpreter, "-c", script, "sh", *arguments], seconds=seconds, **options)

    def output(self, command: Sequence[str], *, seconds: int = SECONDS, **options: Any) -> str:
        """Run a command without a shell and return its output; raises as :meth:`run`."""
        with engine_errors(), self.created(command, **options) as container:
            LOG.debug("on the engine's host: %.200s", " ".join(command))
            self.client.api.start(container)
            self.client.api.wait(container, timeout=seconds)
            return str(self.client.api.logs(container).decode(errors="replace"))

    @contextlib.contextmanager
    def created(self, command: Sequence[str], **options: Any) -> Iterator[str]:
        """Create a container that runs a command in place of the image's own; it is removed with its volumes.

        Yields:
            The container's id; the container is not started.

        Raises:
            docker.errors.DockerException: the engine refused.
            requests.exceptions.RequestException: the engine is gone.
        """
        with signals.deferred():
            container = self.client.api.create_container(
                self.image,
                entrypoint=list(command),
                command=[],
                name=names.shell(self.run_id),
                user="0",  # by number: an image may have no passwd
                labels={labels.RUN: self.run_id},
                host_config=self.client.api.create_host_config(**{"network_mode": "none"} | options),
                healthcheck={"test": ["NONE"]},
                stop_signal="SIGKILL",  # the first process of a container ignores SIGTERM
            )
        try:
            yield str(container["Id"])
        finally:
            # docker-py's own run(remove=True) leaves the image's anonymous volumes.
            with contextlib.suppress(docker.errors.NotFound):
                self.client.api.remove_container(container["Id"], v=True, force=True)
