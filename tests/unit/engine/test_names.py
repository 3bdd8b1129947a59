"""Names on the engine."""

import re

import pytest

from conformance.engine import labels, names
from conformance.model.contract import Contract

RUN = "20261231T235959Z-abcdef012345-4194303"
"""As long as a run's id can be."""


@pytest.fixture(autouse=True)
def _none_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_used", set())


def test_names_of_containers_in_every_mode_are_dns_labels_and_unique(contract: Contract) -> None:
    made = [names.new(RUN, mode.id) for mode in contract.modes for _ in range(11)]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) and len(name) <= 63 for name in made)
    assert len(names.shell(RUN)) <= 63


def test_a_name_says_run_and_purpose() -> None:
    run = labels.new_run()
    assert names.new(run, "least") == f"conformance-{run.lower()}-least"
    assert names.new(run, "least") == f"conformance-{run.lower()}-least-2"
    assert names.new(RUN, "unprivileged-hostnet").endswith("-unpr-hostnet")


def test_a_mode_whose_id_is_no_name_has_one() -> None:
    assert names.new("run", "least without /dev/kvm") == "conformance-run-least-without-dev-kvm"


def test_the_name_of_a_volume_is_not_abbreviated() -> None:
    name = names.new(RUN, "unprivileged-hostnet-libvirt-images", longest=names.VOLUME)
    assert name.endswith("-unprivileged-hostnet-libvirt-images")


def test_shells_of_two_processes_for_one_run_differ() -> None:
    assert names.shell(RUN) != names.shell(RUN)
