"""Huge pages: the kernel reports a guest's memory as the host's huge pages."""

from typing import Any

import pytest

from conformance.checks import hugepages
from conformance.container.container import Container
from conformance.guests.request import TUNED_MIB, tuned
from conformance.guests.spec import Tuning
from conformance.plugin.fixtures import StartGuest

pytestmark = pytest.mark.hugepages


def test_a_guests_memory_is_in_huge_pages(
    start_guest: StartGuest, container: Container, evidence: dict[str, Any]
) -> None:
    hugepages.require(container, TUNED_MIB)

    with start_guest(tuned(Tuning(huge_pages=True))) as guest:
        evidence["huge KiB"] = huge = guest.qemu.memory_kib("HugetlbPages")

    assert huge >= guest.spec.memory_mib * 1024
