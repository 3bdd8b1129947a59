"""Guests whose processors, emulator and memory stay where their definitions put them: the kernel is asked."""

from typing import Any

import pytest

from conformance.checks import processors
from conformance.container.container import Container
from conformance.guests.guest import Tuning
from conformance.plugin.fixtures import Tuned

pytestmark = pytest.mark.cpu_pinning


def test_a_guests_processors_run_only_where_they_are_pinned(
    tuned: Tuned, container: Container, evidence: dict[str, Any]
) -> None:
    last = processors.usable(container)[-1]

    with tuned(Tuning(processors=str(last))) as guest:
        evidence["threads"] = threads = guest.processors()

    assert processors.of_guest(threads) == [str(last)] * guest.guest.shape.cpus


def test_qemus_own_threads_run_only_where_the_emulator_is_pinned(
    tuned: Tuned, container: Container, evidence: dict[str, Any]
) -> None:
    last = processors.usable(container)[-1]

    with tuned(Tuning(emulator=str(last))) as guest:
        evidence["threads"] = threads = guest.processors()

    assert processors.of_emulator(threads) == {str(last)}
    assert str(last) not in processors.of_guest(threads), "the guest's processors are pinned, too"


def test_a_running_guests_processor_is_pinned_to_another_one(
    tuned: Tuned, container: Container, evidence: dict[str, Any]
) -> None:
    usable = processors.usable(container)
    first = usable[0]

    with tuned(Tuning()) as guest:
        guest.domain.pinVcpu(0, tuple(number == first for number in range(usable[-1] + 1)))
        evidence["threads"] = threads = guest.processors()

    pinned, other = processors.of_guest(threads)
    assert pinned == str(first)
    assert other != str(first), "the guest's other processor is pinned, too"


def test_a_guests_memory_is_bound_to_its_node(tuned: Tuned, evidence: dict[str, Any]) -> None:
    with tuned(Tuning(nodes="0")) as guest:
        evidence["policies"] = policies = guest.memory_policies()

    # Only a policy of the kernel is evidence: on a host of one node all memory is there anyway.
    assert "bind:0" in policies
