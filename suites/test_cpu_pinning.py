"""CPU pinning: the kernel runs a guest's processors, emulator and memory only where its definition puts them."""

from typing import Any

import pytest

from conformance.checks import processors
from conformance.container.container import Container
from conformance.guests.request import tuned
from conformance.guests.spec import Tuning
from conformance.plugin.fixtures import StartGuest

pytestmark = pytest.mark.cpu_pinning


def test_a_guests_processors_run_only_where_they_are_pinned(
    start_guest: StartGuest, container: Container, evidence: dict[str, Any]
) -> None:
    last = processors.usable(container)[-1]

    with start_guest(tuned(Tuning(processors=str(last)))) as guest:
        evidence["threads"] = threads = guest.qemu.processors()

    assert processors.of_guest(threads) == [str(last)] * guest.spec.cpus


def test_qemus_own_threads_run_only_where_the_emulator_is_pinned(
    start_guest: StartGuest, container: Container, evidence: dict[str, Any]
) -> None:
    last = processors.usable(container)[-1]

    with start_guest(tuned(Tuning(emulator=str(last)))) as guest:
        evidence["threads"] = threads = guest.qemu.processors()

    assert processors.of_emulator(threads) == {str(last)}
    assert str(last) not in processors.of_guest(threads), "the guest's processors are pinned, too"


def test_a_running_guests_processor_is_pinned_to_another_one(
    start_guest: StartGuest, container: Container, evidence: dict[str, Any]
) -> None:
    usable = processors.usable(container)
    first = usable[0]

    with start_guest(tuned(Tuning())) as guest:
        guest.domain.pinVcpu(0, tuple(number == first for number in range(usable[-1] + 1)))
        evidence["threads"] = threads = guest.qemu.processors()

    pinned, other = processors.of_guest(threads)
    assert pinned == str(first)
    assert other != str(first), "the guest's other processor is pinned, too"


def test_a_guests_memory_is_bound_to_its_node(start_guest: StartGuest, evidence: dict[str, Any]) -> None:
    with start_guest(tuned(Tuning(nodes="0"))) as guest:
        evidence["policies"] = policies = guest.qemu.memory_policies()

    # Only a policy of the kernel is evidence: on a host of one node all memory is there anyway.
    assert "bind:0" in policies
