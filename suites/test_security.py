"""What a container in the mode can do to its host."""

from typing import Any

import pytest

from conformance.container import Container
from conformance.errors import Unsupported
from conformance.powers import POWERS
from conformance.run import Run

pytestmark = pytest.mark.security


@pytest.mark.parametrize("power", POWERS)
def test_the_mode_gives_away_no_more_than_is_known(
    container: Container, run: Run, power: str, evidence: dict[str, Any]
) -> None:
    if not run.disposable:
        raise Unsupported("what a container can do to its host is tried on a lab only")

    evidence["reached"] = POWERS[power](container)

    assert not evidence["reached"] or container.mode.id in run.contract.power(power).modes
