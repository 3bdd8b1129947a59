"""Guests whose memory never leaves the host's: the kernel is asked."""

from typing import Any

import pytest

from conformance.guests.guest import Tuning
from conformance.plugin.fixtures import Tuned

pytestmark = pytest.mark.locked_memory

HARD_LIMIT_MIB = 2048
"""Of all that QEMU has, which is several times a small guest's own memory."""


def test_a_guests_memory_is_locked(tuned: Tuned, evidence: dict[str, Any]) -> None:
    with tuned(Tuning(locked=True)) as guest:
        evidence["locked KiB"] = locked = guest.memory_kib("VmLck")

    assert locked >= guest.guest.shape.memory_mib * 1024


def test_a_hard_limit_bounds_what_qemu_may_lock(tuned: Tuned, evidence: dict[str, Any]) -> None:
    with tuned(Tuning(hard_limit_mib=HARD_LIMIT_MIB)) as guest:
        evidence["lockable bytes"] = lockable = guest.lockable_bytes()

    assert lockable == str(HARD_LIMIT_MIB * 2**20)
