import pytest

from conformance import accel

BOOTED = '@probe {"nonce":"kvm","seq":0,"event":"boot","cpuid_signature":"KVMKVMKVM"}'


def test_a_kernel_that_reports_under_kvm_makes_it_usable() -> None:
    seen = accel.judge(f"noise\n{BOOTED}\n")
    assert seen
    assert seen.usable


@pytest.mark.parametrize(
    "output",
    [
        "KVM internal error. Suberror: 1\nemulation failure\nRAX=0000",
        "qemu-system-x86_64: Could not access KVM kernel module: Permission denied",
        "qemu-system-x86_64: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
    ],
)
def test_what_the_host_cannot_do_is_told_in_its_own_words(output: str) -> None:
    seen = accel.judge(output)
    assert seen
    assert not seen.usable
    assert output.splitlines()[0].rpartition(": ")[2] in seen.seen


def test_a_qemu_without_kvm_is_the_images_fault_and_not_the_hosts() -> None:
    seen = accel.judge("qemu-system-x86_64: invalid accelerator kvm")
    assert seen
    assert seen.usable


def test_a_guest_under_emulation_decides_nothing() -> None:
    assert accel.judge(BOOTED.replace("KVMKVMKVM", "TCGTCGTCGTCG")) is None
    assert accel.judge("SeaBIOS") is None
