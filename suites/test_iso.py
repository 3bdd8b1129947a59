"""Booting virtual machines from ISOs."""

import pytest

from conformance.guest import Firmware
from conformance.plugin import Boot
from conformance.run import Run

pytestmark = pytest.mark.iso


@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_a_guest_boots_from_a_cdrom(boot: Boot, firmware: Firmware, run: Run) -> None:
    guest = boot("iso", firmware=firmware)

    assert guest.report["boot"]["firmware"] == firmware
    assert guest.report["cdrom"]["driver"] == "sr"
    assert run.probe.recipe in guest.report["cdrom"]["marker"]
