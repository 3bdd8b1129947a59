"""Emulated TPMs."""

import pytest

from conformance.plugin.fixtures import Boot

pytestmark = pytest.mark.tpm

RANDOM_REPLY = "80010000001400000000" + "0008"
"""How the answer to a request for eight random bytes begins: no sessions, 20 bytes in all, success, eight follow."""

NOTHING_MEASURED = "0" * 64


@pytest.mark.essential
def test_the_guests_tpm_answers(boot: Boot) -> None:
    tpm = boot("tpm", firmware="efi").report["tpm"]

    assert tpm["version"] == "2"
    assert tpm["reply"].startswith(RANDOM_REPLY)
    assert len(tpm["reply"]) == 2 * 20


def test_the_firmware_measures_itself_into_the_tpm(boot: Boot) -> None:
    assert boot("tpm", firmware="efi").report["tpm"]["measured"] != NOTHING_MEASURED
