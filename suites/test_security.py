"""The access to its host that a container in the mode has."""

from typing import Any

import pytest

from conformance.checks.host_access import POWERS, REFUSED_BY_PROFILE, reached_under, unseen
from conformance.container.container import Container
from conformance.errors import Unsupported
from conformance.model.mode import Mode
from conformance.run.context import Run

pytestmark = pytest.mark.security


@pytest.mark.parametrize("power", POWERS)
def test_the_mode_gives_away_no_more_than_is_known(
    container: Container, run: Run, power: str, evidence: dict[str, Any]
) -> None:
    if not run.disposable:
        raise Unsupported("what a container can do to its host is tried on a lab only")

    evidence["power"] = power
    evidence["reached"] = POWERS[power](container, run)

    assert not evidence["reached"] or container.mode.id in run.contract.power(power).modes


@pytest.mark.profiled
@pytest.mark.parametrize("power", REFUSED_BY_PROFILE)
def test_the_profile_alone_refuses_it(
    container: Container, mode: Mode, run: Run, power: str, evidence: dict[str, Any]
) -> None:
    assert container.running, "whose profile the engine's host knows"
    if not run.disposable:
        raise Unsupported("what a container can do to its host is tried on a lab only")

    evidence["unconfined"] = reached_under(run, "unconfined", power)
    evidence["confined"] = reached_under(run, mode.profile, power)

    assert evidence["unconfined"], "without the profile it is reached: there is something to refuse"
    if evidence["confined"] and (why := unseen(run.fingerprint.kernel, power)):
        raise Unsupported(why)
    assert not evidence["confined"]
