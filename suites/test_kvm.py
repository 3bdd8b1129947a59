"""KVM virtualization."""

import pytest

from conformance.plugin.fixtures import Boot

pytestmark = pytest.mark.kvm


@pytest.mark.essential
def test_guest_code_runs_under_kvm(boot_under_kvm: Boot) -> None:
    guest = boot_under_kvm()

    assert guest.kvm == {"enabled": True, "present": True}
    assert guest.report["boot"]["cpuid_signature"] == "KVMKVMKVM"
    assert "/dev/kvm" in guest.open_files
