"""testinfra's view into a container, by the engine's API.

testinfra's own docker backend answers False for a container that is dead, has no deadline, and needs Docker's
command line; this one raises, gives up, and uses the API that the harness uses anyway.
"""

from typing import Any

from testinfra.backend import base
from testinfra.host import Host

from conformance.container.container import Container


class EngineBackend(base.BaseBackend):  # type: ignore[misc]  # testinfra has no types
    """Run testinfra's commands in a container."""

    NAME = "engine"

    def __init__(self, container: Container) -> None:
        super().__init__(container.name)
        self._container = container

    def run(self, command: str, *args: str, **_kwargs: Any) -> base.CommandResult:
        """Run a shell command.

        Raises:
            ImageFailure: the container is not running, or the command outlived its deadline.
        """
        line = self.get_command(command, *args)
        done = self._container.run("sh", "-c", line)
        return self.result(done.status, self.encode(line), done.stdout, done.stderr)


def look_into(container: Container) -> Host:
    """Return testinfra's host for a container."""
    return Host(EngineBackend(container))
