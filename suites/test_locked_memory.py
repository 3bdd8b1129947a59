"""Locked memory: the kernel reports a guest's memory as locked."""

from typing import Any

import pytest

from conformance.guests.request import tuned
from conformance.guests.spec import Tuning
from conformance.plugin.fixtures import StartGuest

pytestmark = pytest.mark.locked_memory

HARD_LIMIT_MIB = 2048
"""The limit of QEMU's whole memory, which is several times a small guest's own."""


def test_a_guests_memory_is_locked(start_guest: StartGuest, evidence: dict[str, Any]) -> None:
    with start_guest(tuned(Tuning(locked=True))) as guest:
        evidence["locked KiB"] = locked = guest.qemu.memory_kib("VmLck")

    assert locked >= guest.spec.memory_mib * 1024


def test_a_hard_limit_bounds_what_qemu_may_lock(start_guest: StartGuest, evidence: dict[str, Any]) -> None:
    with start_guest(tuned(Tuning(hard_limit_mib=HARD_LIMIT_MIB))) as guest:
        evidence["lockable bytes"] = lockable = guest.qemu.lockable_bytes()

    assert lockable == str(HARD_LIMIT_MIB * 2**20)
