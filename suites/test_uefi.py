"""UEFI firmware."""

import pytest

from conformance.plugin import Boot

pytestmark = pytest.mark.uefi


def test_a_guest_boots_by_ovmf(boot: Boot) -> None:
    guest = boot(firmware="efi")

    assert guest.report["boot"]["firmware"] == "efi"


def test_a_guest_without_ovmf_boots_by_bios(boot: Boot) -> None:
    assert boot().report["boot"]["firmware"] == "bios"
