"""Throw-away containers: one question to an image or to its host, and nothing left of it."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import docker
import docker.errors

from conformance.engine import labels
from conformance.util import signals


@contextlib.contextmanager
def created(
    client: docker.DockerClient, image: str, command: Sequence[str], *, run: str, **host_config: Any
) -> Iterator[str]:
    """Create a container that runs a command in place of the image's own; it is removed with its volumes.

    Args:
        client: the engine.
        image: the image's tag or id.
        command: its words; no shell.
        run: the run's id, for the label.
        host_config: as docker-py's ``create_host_config`` takes it.

    Yields:
        The container's id; it is not started.
    """
    with signals.deferred():
        container = client.api.create_container(
            image,
            entrypoint=list(command),
            command=[],
            user="0",  # by number: an image may have no passwd
            labels={labels.RUN: run},
            host_config=client.api.create_host_config(**host_config),
            healthcheck={"test": ["NONE"]},
            stop_signal="SIGKILL",  # the first process of a container ignores SIGTERM
        )
    try:
        yield str(container["Id"])
    finally:
        # docker-py's own run(remove=True) leaves the image's anonymous volumes.
        with contextlib.suppress(docker.errors.NotFound):
            client.api.remove_container(container["Id"], v=True, force=True)


def output(
    client: docker.DockerClient, image: str, command: Sequence[str], *, run: str, seconds: int = 60, **host_config: Any
) -> str:
    """Return what a command writes, to either of its streams.

    Raises:
        requests.exceptions.RequestException: it was still running after ``seconds``, or the engine is gone.
        docker.errors.DockerException: the engine refused.
    """
    with created(client, image, command, run=run, **host_config) as container:
        client.api.start(container)
        client.api.wait(container, timeout=seconds)
        return str(client.api.logs(container).decode(errors="replace"))
