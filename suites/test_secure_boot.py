"""Secure Boot."""

from typing import Any

import pytest

from conformance.guests.request import on_medium
from conformance.plugin.fixtures import Boot, StartGuest
from conformance.run.context import Run

pytestmark = pytest.mark.secure_boot


@pytest.mark.essential
def test_a_signed_chain_boots_with_secure_boot_enforced(boot: Boot, run: Run) -> None:
    guest = boot("iso", firmware="secure-boot")

    assert guest.report["boot"]["secure_boot"] is True
    assert run.probe.recipe in guest.report["cdrom"]["marker"]


def test_without_secure_boot_the_guest_says_so(boot: Boot) -> None:
    guest = boot("iso", firmware="efi")

    assert not guest.report["boot"]["secure_boot"]


def test_an_unsigned_loader_is_refused(start_guest: StartGuest, run: Run, evidence: dict[str, Any]) -> None:
    with start_guest(on_medium(run.probe.iso, firmware="secure-boot")) as machine:
        evidence |= machine.wait_for_text(r"failed to load Boot\d+ .*DVD-ROM.*: Access Denied")
