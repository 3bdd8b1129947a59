"""A guest's machine, as the guest sees it, beside its domain's definition."""

from typing import Any

import pytest

from conformance.container.container import Container
from conformance.guests.request import GuestRequest
from conformance.guests.storage import DISK_BYTES
from conformance.plugin.fixtures import Boot, RunningGuests, StartGuest

pytestmark = pytest.mark.machine

FIRMWARES_KIB = 96 * 1024
"""More memory than firmware and kernel keep for themselves: the kernel does not count it."""

CLOCK_SECONDS = 15
"""The guest's clock counts whole seconds, and falls behind while an emulated guest is starved of processors."""


@pytest.mark.essential
def test_the_guest_has_the_model_the_uuid_and_the_memory_of_its_domain(running: RunningGuests) -> None:
    guest = running()
    machine, memory = guest.probe.ask("machine"), guest.report["boot"]["memory_kib"]

    assert "Q35" in machine["product"]
    assert machine["uuid"] == guest.domain.UUIDString()
    assert guest.report["boot"]["cpus"] == guest.spec.cpus
    assert 0 <= guest.spec.memory_mib * 1024 - memory <= FIRMWARES_KIB


def test_the_guests_processors_are_the_model_of_its_domain(start_guest: StartGuest) -> None:
    with start_guest(GuestRequest("a guest with two processors Westmere", cpu_model="Westmere", cpus=2)) as guest:
        machine = guest.probe.ask("machine")

    assert machine["cpus"] == 2
    assert "Westmere" in machine["processor"]
    assert "aes" in machine["flags"]
    assert "avx" not in machine["flags"]  # of its successor, and of most hosts


def test_the_guests_clock_is_right(running: RunningGuests, container: Container, evidence: dict[str, Any]) -> None:
    guest = running()
    before = int(container.run("date", "+%s").text)
    told = guest.probe.ask("machine")["clock"]
    after = int(container.run("date", "+%s").text)
    evidence |= {"before": before, "guest": told, "after": after}

    assert before - CLOCK_SECONDS <= told <= after + CLOCK_SECONDS


def test_the_disk_has_the_capacity_and_the_cache_of_its_domain(boot: Boot, running: RunningGuests) -> None:
    raw, qcow2 = boot("disk").report["disk"], running("snapshots")

    assert raw["bytes"] == qcow2.probe.ask("size")["bytes"] == DISK_BYTES
    assert raw["cache"] == "write back"
    assert qcow2.qemu.opens_directly(qcow2.spec.disk), "QEMU reads and writes the disk through the host's cache"
