"""Guests whose memory is made of the host's huge pages: the kernel is asked."""

from typing import Any

import pytest

from conformance.checks import hugepages
from conformance.container.container import Container
from conformance.guests.factory import TUNED_MIB
from conformance.guests.guest import Tuning
from conformance.plugin.fixtures import Tuned

pytestmark = pytest.mark.hugepages


def test_a_guests_memory_is_in_huge_pages(tuned: Tuned, container: Container, evidence: dict[str, Any]) -> None:
    hugepages.require(container, TUNED_MIB)

    with tuned(Tuning(huge_pages=True)) as guest:
        evidence["huge KiB"] = huge = guest.memory_kib("HugetlbPages")

    assert huge >= guest.guest.shape.memory_mib * 1024
