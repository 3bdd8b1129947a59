"""Leaving nothing behind: whatever a run made on an engine is found by its label and removed."""

from collections.abc import Callable, Iterable
from functools import partial

import docker
import docker.errors

from conformance import labels
from conformance.container import engine_errors
from conformance.errors import EngineError
from conformance.wait import DeadlineExpired, wait_for

STOP_SECONDS = 20
"""For a container to end by itself, which it does at once where no guest has to be shut down."""

REMOVE_SECONDS = 30
"""For the engine to let go of a thing: another run may be removing it, or a container on it be ending."""


def remove(client: docker.DockerClient, run: str) -> list[str]:
    """Remove a run's containers, networks and volumes.

    What cannot be removed does not keep the rest from being removed.

    Returns:
        What was removed, as ``kind name``; empty when the run had cleaned up itself.

    Raises:
        EngineGone: the engine is gone.
        EngineError: something cannot be removed; says what, and why.
    """
    mark = f"{labels.RUN}={run}"
    gone: list[str] = []
    stuck: list[str] = []

    def take(thing: str, *calls: Callable[[], object]) -> None:
        try:
            for call in calls:
                _insist(call)
        except docker.errors.NotFound:
            return
        except (docker.errors.DockerException, DeadlineExpired) as error:
            stuck.append(f"{thing} ({getattr(error, 'explanation', None) or error})")
        else:
            gone.append(thing)

    api = client.api
    with engine_errors():
        for container in api.containers(all=True, filters={"label": mark}):
            name, id_ = container["Names"][0].lstrip("/"), container["Id"]
            # A container in the host's network takes its links and rules with it only if it may end by itself.
            stop = [partial(api.stop, id_, timeout=STOP_SECONDS)] if container["State"] == "running" else []
            take(f"container {name}", *stop, partial(api.remove_container, id_, v=True, force=True))
        for network in api.networks(filters={"label": mark}):
            take(f"network {network['Name']}", partial(api.remove_network, network["Id"]))
        for volume in api.volumes(filters={"label": mark})["Volumes"] or []:
            take(f"volume {volume['Name']}", partial(api.remove_volume, volume["Name"], force=True))
    if stuck:
        raise EngineError(
            f"the engine does not remove {'; '.join(stuck)}", "remove it by hand; else the next run tries it again"
        )
    return gone


CONFLICT = 409
"""HTTP status of a refusal that time may mend."""


def _insist(call: Callable[[], object]) -> None:
    """Make a call that may come too early, until it is not refused as a conflict."""
    refusal = ""

    def ask() -> bool:
        nonlocal refusal
        try:
            call()
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
            refusal = error.explanation or str(error)
            return False
        return True

    wait_for("the engine to let go of it", ask, seconds=REMOVE_SECONDS, interval=0.5, seen=lambda: refusal)


def sweep(client: docker.DockerClient) -> list[str]:
    """Remove what runs of this machine left that are no longer alive, for example because they were killed.

    Returns:
        What was removed, as ``kind name``.

    Raises:
        EngineGone: the engine is gone.
        EngineError: something cannot be removed.
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
