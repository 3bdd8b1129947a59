"""What the parts of the plugin share: keys of the stash, exit statuses, and the context of a worker."""

from dataclasses import dataclass
from typing import TextIO

import pytest

from conformance.container.container import Container
from conformance.installers.user_iso import UserIso
from conformance.installers.windows.user_iso import Windows
from conformance.model import requirements
from conformance.model.mode import Mode
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util.progress import Progress

INSTALL = "install"
"""The marker of what takes long; -m names it, or the feature's own, where it is to be asked."""

EXIT_NOTHING_DECIDED = 5
"""As pytest's own for a session without tests: nothing was decided."""

EXIT_CANNOT_RUN = 6
"""The machine or its engine cannot run anything; nothing was asked."""


@dataclass(frozen=True)
class WorkerContext:
    """What a session asks of a run that another process leads; what ``--require`` names, that one looks at.

    Attributes:
        run: what records call the whole run.
        mode: of the chosen modes, the session's own.
        progress: where to say what is waited for, a line each.
    """

    run: str
    mode: str
    progress: TextIO


QUESTION = pytest.StashKey[Check]()
RUN = pytest.StashKey[Run]()
PROGRESS = pytest.StashKey[Progress]()
MODES = pytest.StashKey[list[Mode]]()
GIVEN = pytest.StashKey[UserIso | None]()
WINDOWS = pytest.StashKey[Windows | None]()
REQUIRED = pytest.StashKey[requirements.Required]()
SELECTED = pytest.StashKey[bool]()
JUDGED = pytest.StashKey[Container]()
"""The newest container, whether it came up or not."""
GIVEN_RUN = pytest.StashKey[Run]()
"""A run that somebody else has prepared, and closes: several sessions then ask in it."""
ASSIGNMENT = pytest.StashKey[WorkerContext]()
"""Of a session that is only a part of a run."""
