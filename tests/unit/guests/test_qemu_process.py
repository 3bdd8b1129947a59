"""The QEMU process, as the kernel describes it; the container's answers are fakes."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.container.engine_container import ExecResult
from conformance.guests.guest import GuestFailure
from conformance.guests.qemu_process import QemuProcess
from conformance.model import contract as contracts
from conformance.model import mode

MODE = mode.from_contract(contracts.load(), "unprivileged")


def process(monkeypatch: pytest.MonkeyPatch, run: Any, pid: str = "7") -> QemuProcess:
    monkeypatch.setattr(QemuProcess, "pid", pid)
    monkeypatch.setattr("conformance.guests.guest._traces", lambda *_: "")
    return QemuProcess(cast("Any", SimpleNamespace(run=run, mode=MODE)), cast("Any", SimpleNamespace(name="probe")))


@pytest.mark.parametrize(
    ("done", "label"),
    [
        (ExecResult(0, b"libvirt-1 (enforce)\n", b""), "libvirt-1 (enforce)"),
        (ExecResult(1, b"", b"cat: /proc/7/attr/current: Invalid argument\n"), ""),
        (ExecResult(1, b"", b"cat: /proc/7/attr/current: No such file or directory\n"), None),
        (ExecResult(1, b"", b"cat: /proc/7/attr/current: Permission denied\n"), None),
    ],
)
def test_a_label_that_cannot_be_read_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, done: ExecResult, label: str | None
) -> None:
    qemu = process(monkeypatch, lambda *_: done)
    if label is None:
        with pytest.raises(GuestFailure, match="cannot be read"):
            _ = qemu.label
    else:
        assert qemu.label == label


THREADS = b"""\
Name:\tqemu-system-x86
Cpus_allowed_list:\t0-1
Name:\tCPU 0/KVM
Cpus_allowed_list:\t1
"""
MEMORY = b"VmLck:\t  524288 kB\nHugetlbPages:\t       0 kB\n"
MAPS = b"55f59c67d000 bind:0 file=/usr/bin/qemu\n7fb2cbe00000 default anon=1\n"


def test_the_kernel_says_where_qemu_runs_and_what_its_memory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*command: str, user: str = "") -> ExecResult:
        wanted = {"task": THREADS, "limits": b"2147483648\n", "numa_maps": MAPS if user == "libvirt" else b""}
        return ExecResult(0, next((text for word, text in wanted.items() if word in command[2]), MEMORY), b"")

    qemu = process(monkeypatch, run)

    assert qemu.processors() == {"qemu-system-x86": "0-1", "CPU 0/KVM": "1"}
    assert qemu.memory_kib("VmLck") == 524288
    assert qemu.memory_kib("HugetlbPages") == 0
    assert qemu.lockable_bytes() == "2147483648"
    assert qemu.memory_policies() == {"bind:0", "default"}


def test_a_qemu_that_has_ended_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ExecResult(1, b"", b"cat: /proc//status: No such file or directory\n")
    qemu = process(monkeypatch, lambda *_, **__: gone, pid="")
    with pytest.raises(GuestFailure, match=r"cannot be read: cat: /proc//status"):
        qemu.memory_kib("VmLck")


@pytest.mark.parametrize(("flags", "direct"), [(b"02140002\n", True), (b"02100002\n", False), (b"", False)])
def test_a_disk_that_bypasses_the_hosts_cache_is_open_with_o_direct(
    monkeypatch: pytest.MonkeyPatch, flags: bytes, direct: bool
) -> None:
    words: list[str] = []

    def run(*command: str, user: str = "") -> ExecResult:
        words.extend([*command, user])
        return ExecResult(0, flags, b"")

    assert process(monkeypatch, run).opens_directly("disk.raw") is direct
    assert words[-3:] == ["7", "disk.raw", "libvirt"]
