"""Leaving nothing behind: whatever a run made on an engine is found by its label and removed."""

import contextlib
from collections.abc import Iterable

import docker
import docker.errors

from conformance import labels
from conformance.container import engine_errors


def remove(client: docker.DockerClient, run: str) -> list[str]:
    """Remove a run's containers, networks and volumes.

    Returns:
        What was removed, as ``kind name``; empty when the run had cleaned up itself.

    Raises:
        EngineError: the engine is gone.
    """
    mark = f"{labels.RUN}={run}"
    gone: list[str] = []
    with engine_errors():
        for container in client.api.containers(all=True, filters={"label": mark}):
            with contextlib.suppress(docker.errors.NotFound):
                if container["State"] == "running":
                    # A container in the host's network takes its links and rules with it only if it may end by itself.
                    client.api.stop(container["Id"], timeout=20)
                client.api.remove_container(container["Id"], v=True, force=True)
                gone.append(f"container {container['Names'][0].lstrip('/')}")
        for network in client.api.networks(filters={"label": mark}):
            with contextlib.suppress(docker.errors.NotFound):
                client.api.remove_network(network["Id"])
                gone.append(f"network {network['Name']}")
        for volume in client.api.volumes(filters={"label": mark})["Volumes"] or []:
            with contextlib.suppress(docker.errors.NotFound):
                client.api.remove_volume(volume["Name"], force=True)
                gone.append(f"volume {volume['Name']}")
    return gone


def sweep(client: docker.DockerClient) -> list[str]:
    """Remove what runs of this machine left that are no longer alive, for example because they were killed.

    Returns:
        What was removed, as ``kind name``.

    Raises:
        EngineError: the engine is gone.
    """
    with engine_errors():
        found: list[dict[str, object]] = [
            *client.api.containers(all=True, filters={"label": labels.RUN}),
            *client.api.networks(filters={"label": labels.RUN}),
            *(client.api.volumes(filters={"label": labels.RUN})["Volumes"] or []),
        ]
    return [line for run in dead_runs(found) for line in remove(client, run)]


def dead_runs(found: Iterable[dict[str, object]]) -> list[str]:
    """Return the ids of runs that are this machine's and whose process is gone."""
    runs = {str(dict(thing.get("Labels") or {}).get(labels.RUN, "")) for thing in found}  # type: ignore[call-overload]
    return sorted(run for run in runs if run and labels.made_here(run) and not labels.alive(run))
