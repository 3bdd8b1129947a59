"""UEFI firmware."""

from typing import Any

import pytest
from testinfra.host import Host

from conformance.container.container import Container
from conformance.guests.factory import Guests
from conformance.plugin.fixtures import Boot

pytestmark = pytest.mark.uefi


@pytest.mark.essential
def test_a_guest_boots_by_ovmf(boot: Boot) -> None:
    guest = boot(firmware="efi")

    assert guest.report["boot"]["firmware"] == "efi"


def test_a_guest_without_ovmf_boots_by_bios(boot: Boot) -> None:
    assert boot().report["boot"]["firmware"] == "bios"


@pytest.mark.ends("container")
def test_a_variable_is_kept_over_a_restart_of_guest_and_container(
    guests: Guests, container: Container, container_host: Host, evidence: dict[str, Any]
) -> None:
    with guests.defined_with_variable("Kept", firmware="efi") as domain:
        first = domain.boot()
        nvram = container_host.file(domain.spec.nvram)
        assert nvram.is_file
        assert nvram.size > 0

        container.renew()
        second = domain.boot()

    evidence |= {"nvram": domain.spec.nvram, "first": first.report.as_json(), "second": second.report.as_json()}
    assert first.report["nvram"]["before"] is None
    assert first.report["nvram"]["value"] == first.nonce
    assert second.report["nvram"]["before"] == first.nonce
