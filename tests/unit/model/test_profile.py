"""Profiles: which features, checks and modes they select."""

from pathlib import Path

import pytest

from conformance.errors import ContractError
from conformance.model import contract as contracts
from conformance.model.contract import Contract
from conformance.util import paths


def test_the_profiles_are_three(contract: Contract) -> None:
    assert [one.id for one in contract.profiles] == ["smoke", "standard", "full"]


def test_full_is_every_feature_in_every_mode(contract: Contract) -> None:
    full = contract.profile("full")
    assert contract.modes_of(full, "apparmor") == tuple(one.id for one in contract.modes)
    assert all(full.tests(one.id) for one in contract.features)
    assert not full.partial


@pytest.mark.parametrize("name", ["smoke", "standard"])
def test_a_host_tests_its_recommended_mode(contract: Contract, name: str) -> None:
    profile = contract.profile(name)
    for kind in contract.recommendations:
        assert contract.modes_of(profile, f"{kind.security}, seccomp") == (kind.mode,)


def test_an_unknown_host_may_be_of_any_kind(contract: Contract) -> None:
    modes = contract.modes_of(contract.profile("smoke"), None)
    assert {*modes} == {one.mode for one in contract.recommendations}


def test_smoke_is_a_part(contract: Contract) -> None:
    smoke = contract.profile("smoke")
    assert smoke.partial
    assert smoke.tests("nat")
    assert not smoke.tests("restart")


def test_modes_without_recommendations_have_to_be_named(contract: Contract) -> None:
    theirs = contract.model_copy(update={"recommendations": ()})
    with pytest.raises(ContractError, match="name a mode with --mode"):
        theirs.modes_of(theirs.profile("smoke"), "seccomp")


def test_a_profile_names_features_that_exist(tmp_path: Path) -> None:
    file = tmp_path / "contract.toml"
    file.write_text(paths.CONTRACT.read_text().replace('"exposures", "volumes", "defaults"', '"exposed"', 1))
    with pytest.raises(ContractError, match=r"profile 'smoke' names the feature 'exposed'"):
        contracts.load(file)


def test_a_profile_may_name_features_that_another_image_does_not_promise(tmp_path: Path) -> None:
    file = tmp_path / "theirs.toml"
    file.write_text('schema = 1\nextends = true\npromises = ["api"]\n')
    assert contracts.load(file).profile("smoke").tests("nat")
