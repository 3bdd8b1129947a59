"""Clean-up: a run's things on the engine are found by their label and removed, its changes of the host undone."""

import contextlib
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import docker
import docker.errors

from conformance.engine import labels
from conformance.engine.api_errors import engine_errors
from conformance.errors import EngineError
from conformance.host import apparmor, cgroup_options, network_leftovers, network_lock, vfio
from conformance.host.change import HostChange
from conformance.host.network_lock import HostBusy
from conformance.util.wait import DeadlineExpired, wait_for

LOG = logging.getLogger(__name__)

CHANGES = (network_leftovers.CHANGE, apparmor.CHANGE, cgroup_options.CHANGE, vfio.CHANGE)
"""Kinds of changes of the host that a run makes; clean-up undoes them in this order."""

STOP_SECONDS = 20
"""For a container to end by itself; without guests it ends at once."""

REMOVE_SECONDS = 30
"""For the engine to release a thing: another run may be removing it, or a container on it may be ending."""


def remove(client: docker.DockerClient, run: str, *, alone: bool = False) -> list[str]:
    """Remove a run's containers, networks, volumes and images, and undo its changes of the host.

    A failure does not stop the removal of the rest. While another run is in the host's network, leftovers there stay
    for the next run.

    Args:
        client: the engine.
        run: its id.
        alone: the caller has the host's network to itself.

    Returns:
        What was removed, as ``kind name``; empty when the run had cleaned up itself.

    Raises:
        EngineGone: the engine is gone.
        EngineError: something cannot be removed.
    """
    mark = f"{labels.RUN}={run}"
    gone: list[str] = []
    stuck: list[str] = []

    def take(thing: str, *calls: Callable[[], object]) -> None:
        try:
            for call in calls:
                _insist(call)
        except (docker.errors.NotFound, HostBusy):
            return
        except (docker.errors.DockerException, DeadlineExpired, EngineError) as error:
            stuck.append(f"{thing} ({getattr(error, 'explanation', None) or getattr(error, 'message', None) or error})")
        else:
            LOG.info("removed %s", thing)
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
        volumes = api.volumes(filters={"label": mark})["Volumes"] or []
        for volume in volumes:
            # First the host: until it is restored, the volume remembers its state.
            restored = [
                partial(_restore, client, change, volume, gone, alone)
                for change in CHANGES
                if change.label in volume["Labels"]
            ]
            take(f"volume {volume['Name']}", *restored, partial(api.remove_volume, volume["Name"], force=True))
        # Restoring the host takes the image that such a volume names.
        waits = [one for one in volumes if labels.IMAGE in one["Labels"] and f"volume {one['Name']}" not in gone]
        for image in [] if waits else api.images(filters={"label": mark}):
            take(f"image {image['Id']}", partial(api.remove_image, image["Id"], force=True, noprune=True))
    if stuck:
        raise EngineError(
            f"the engine does not remove {'; '.join(stuck)}", "remove it by hand, or let the next run try again"
        )
    return gone


CONFLICT = 409
"""HTTP status of a temporary refusal."""


def _insist(call: Callable[[], object]) -> None:
    """Repeat a call that may come too early, until it is no longer refused as a conflict."""
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

    wait_for("the engine to release it", ask, seconds=REMOVE_SECONDS, interval=0.5, seen=lambda: refusal)


def restore_network(client: docker.DockerClient, run: str) -> list[str]:
    """Remove leftovers of a run's containers from the host's network, which the caller has to itself.

    Returns:
        The leftovers that were removed, one line each; empty where there were none.

    Raises:
        EngineError: leftovers are still there, or the engine refused.
    """
    change = network_leftovers.CHANGE
    done: list[str] = []
    with engine_errors():
        volumes = client.api.volumes(filters={"label": [f"{labels.RUN}={run}", change.label]})["Volumes"]
        for volume in volumes or []:
            _restore(client, change, volume, done, alone=True)
            client.api.remove_volume(volume["Name"], force=True)
    return done


def _restore(
    client: docker.DockerClient, change: HostChange, volume: dict[str, Any], done: list[str], alone: bool
) -> None:
    """Undo one change of the host; raises HostBusy while another run has the host's network and the change is there."""
    lock: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if change.in_host_network and not alone:
        lock = network_lock.held(lambda _: None, seconds=0, address=network_lock.address(client.info()))
    with lock:
        line = change.undo(client, volume)
    done += [line] if line else []


def sweep(client: docker.DockerClient, *, alone: bool = False) -> list[str]:
    """Remove leftovers of this machine's runs whose process is gone, for example because it was killed.

    Args:
        client: the engine.
        alone: the caller has the host's network to itself.

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
            *client.api.images(filters={"label": labels.RUN}),
        ]
    return [line for run in dead_runs(found) for line in remove(client, run, alone=alone)]


def dead_runs(found: Iterable[dict[str, object]]) -> list[str]:
    """Return the ids of runs that are this machine's and whose process is gone."""
    runs = {str(dict(thing.get("Labels") or {}).get(labels.RUN, "")) for thing in found}  # type: ignore[call-overload]
    return sorted(run for run in runs if run and labels.made_here(run) and not labels.alive(run))
