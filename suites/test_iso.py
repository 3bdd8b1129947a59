"""Booting virtual machines from ISOs."""

from typing import Any

import pytest

from conformance.guests.devices import Firmware
from conformance.guests.request import on_medium
from conformance.installers.user_iso import UserIso
from conformance.media.third_party import third_party_media
from conformance.plugin.fixtures import Boot, StartGuest
from conformance.run.context import Run

pytestmark = pytest.mark.iso


@pytest.mark.parametrize("firmware", ["bios", pytest.param("efi", marks=pytest.mark.essential)])
def test_a_guest_boots_from_a_cdrom(boot: Boot, firmware: Firmware, run: Run) -> None:
    guest = boot("iso", firmware=firmware)

    assert guest.report["boot"]["firmware"] == firmware
    assert guest.report["cdrom"]["driver"] == "sr"
    assert run.probe.recipe in guest.report["cdrom"]["marker"]


def test_grub_rescue_boots_by_bios(start_guest: StartGuest, evidence: dict[str, Any]) -> None:
    with start_guest(on_medium(third_party_media()["grub-rescue.iso"], firmware="bios")) as machine:
        evidence |= machine.wait_for_text(r"The highlighted entry will be executed automatically in \d+s")


@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_ipxe_boots(start_guest: StartGuest, firmware: Firmware, evidence: dict[str, Any]) -> None:
    with start_guest(on_medium(third_party_media()["ipxe.iso"], firmware=firmware)) as machine:
        evidence |= machine.wait_for_text(r"iPXE \d+\.\d+\.\d+\S* .*-- Open Source Network Boot Firmware --")


@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_memtest_runs(start_guest: StartGuest, firmware: Firmware, evidence: dict[str, Any]) -> None:
    # It writes to the screen alone. With less memory it begins to test sooner.
    with start_guest(on_medium(third_party_media()["memtest.iso"], firmware=firmware, memory_mib=128)) as machine:
        evidence |= machine.wait_for_text(
            r"Memtest86\+ v\d+\.\d+ (.|\n)* Time: +(?!0:00:00)\d+:\d\d:\d\d +Status: Testing", on="screen"
        )


@pytest.mark.user_iso
def test_the_user_iso_shows_what_is_expected(
    start_guest: StartGuest, user_iso: UserIso, evidence: dict[str, Any]
) -> None:
    with start_guest(on_medium(user_iso.path, firmware=user_iso.firmware, memory_mib=user_iso.memory_mib)) as machine:
        evidence |= machine.wait_for_text(user_iso.expected, seconds=user_iso.seconds)
