"""Changes of the engine's host that have to be undone, whatever becomes of the run that makes them.

A run labels an empty volume on the engine with the state before a change, makes the change, and restores that state at
its end. The volume outlives a killed run: the next run finds it and restores the state in its place
(:mod:`conformance.run.cleanup`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import docker

from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.host_shell import HostShell

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostChange:
    """One kind of change of the host.

    Attributes:
        label: key of the volume's label that holds the state before the change.
        restore: restores that state. Takes a shell on the host and the label's value; returns a line that names what
            was restored, or nothing where there was nothing to restore or to report. Raises EngineError.
        in_host_network: the caller of ``restore`` holds the lock on the host's network
            (:mod:`conformance.host.network_lock`).
    """

    label: str
    restore: Callable[[HostShell, str], str]
    in_host_network: bool = False

    def remember(self, shell: HostShell, state: str) -> str:
        """Keep a state on the engine and return the volume's name; raises EngineError where the engine refuses."""
        marks = {labels.RUN: shell.run_id, labels.IMAGE: shell.image, self.label: state}
        name = names.new(shell.run_id, self.label.rpartition(".")[2], longest=names.VOLUME)
        LOG.info("changing the host: %s was %s", self.label, state)
        with engine_errors():
            return str(shell.client.api.create_volume(name, labels=marks)["Name"])

    def undo(self, client: docker.DockerClient, volume: Mapping[str, Any]) -> str:
        """Restore the state that a volume remembers, with the image that the volume names.

        Args:
            client: the engine.
            volume: as the engine lists it.

        Returns:
            A line that names what was restored, or nothing.

        Raises:
            EngineError: the state cannot be restored, or the engine refused.
        """
        marks = volume["Labels"]
        restored = self.restore(HostShell(client, marks[labels.IMAGE], marks[labels.RUN]), marks[self.label])
        LOG.info("restored the host: %s: %s", self.label, restored or "nothing to do")
        return restored


def forget(client: docker.DockerClient, volume: str) -> None:
    """Remove a volume whose state the host has again; raises EngineError where the engine refuses."""
    with engine_errors():
        client.api.remove_volume(volume, force=True)
