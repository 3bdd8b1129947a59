"""Boots in a row on a lab that is only told of: all come through, or it is said after how many not."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from conformance.bench import lab_boots
from conformance.errors import EngineError, HarnessError, ImageFailure, LabError
from conformance.guests.devices import Firmware
from conformance.guests.guest import Guest
from conformance.guests.spec import GuestSpec
from conformance.lab import definition, startup
from conformance.media.probe import Probe
from conformance.media.probe_report import Event
from conformance.util.progress import Progress

PROBE = Probe(Path("iso"), Path("signed"), Path("kernel"), Path("initrd"), Path("peer"), "recipe-1")


def booted(told: Firmware, *, marker: str = "probe recipe-1", **said: Any) -> Guest:
    """Return a guest that reports what it should, but for what is given."""
    guest = Guest("probe-1", "nonce", GuestSpec(told, "kvm", "pool"), "<domain/>", "mac")
    facts = {
        "firmware": "bios" if told == "bios" else "efi",
        "secure_boot": {"bios": None, "efi": False, "secure-boot": True}[told],
        "cpuid_signature": "KVMKVMKVM",
    }
    guest.report.events = [Event("boot", facts | said), Event("cdrom", {"marker": marker})]
    return guest


@pytest.mark.parametrize("firmware", lab_boots.FIRMWARE)
def test_a_guest_that_reports_what_it_was_told_has_come_through(firmware: Firmware) -> None:
    lab_boots.require(booted(firmware), PROBE)


@pytest.mark.parametrize(
    ("firmware", "wrong", "why"),
    [
        ("bios", {"firmware": "efi"}, "firmware 'efi' instead of 'bios'"),
        ("efi", {"firmware": "bios"}, "firmware 'bios' instead of 'efi'"),
        ("efi", {"secure_boot": True}, "Secure Boot True instead of False"),
        ("secure-boot", {"secure_boot": False}, "Secure Boot False instead of True"),
        ("bios", {"cpuid_signature": "TCGTCGTCGTCG"}, "hypervisor 'TCGTCGTCGTCG' instead of 'KVMKVMKVM'"),
        ("bios", {"marker": "probe recipe-0"}, "medium False instead of True"),
    ],
)
def test_a_guest_that_reports_something_else_has_not(firmware: Firmware, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ImageFailure, match=why):
        lab_boots.require(booted(firmware, **wrong), PROBE)


class Row:
    """A lab whose boots end as told, in their order; those that are not told of end well."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = dict(enumerate(ends))
        self.happened: list[str] = []
        self.ended = False

    @contextlib.contextmanager
    def engine(self, *_: object) -> Iterator[tuple["Row", SimpleNamespace]]:
        try:
            yield self, SimpleNamespace(socket="/lab.sock")
        finally:
            self.happened.append("lab stopped")

    def failed(self, what: str) -> LabError:
        return LabError(f"the lab {what}; its console ends with: it")

    def check(self) -> None:
        if self.ended:
            raise self.failed("no longer runs")

    def prepare(self, *_: object, address: str, choice: str, **__: object) -> SimpleNamespace:
        self.happened.append(f"{choice} at {address}")
        container = SimpleNamespace(start=lambda: None, wait_until_ready=lambda: None)

        def close() -> None:
            self.happened.append("removed")
            raise EngineError("a lab that has ended removes nothing")

        return SimpleNamespace(
            id="run",
            probe=PROBE,
            contract=None,
            engine=SimpleNamespace(client=None),
            container=lambda *_, **__: container,
            close=close,
        )

    def boot_alone(self, *needs: str, firmware: Firmware, seconds: float) -> Guest:
        assert needs == ("iso",)
        end = self.ends.get(len([one for one in self.happened if one in lab_boots.FIRMWARE]))
        if end:
            raise end
        self.happened.append(firmware)
        return booted(firmware)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Row]:
    def row(*ends: Exception | None) -> Row:
        made = Row(*ends)
        monkeypatch.setattr(startup, "engine", made.engine)
        monkeypatch.setattr(lab_boots, "prepare", made.prepare)
        monkeypatch.setattr(lab_boots, "Guests", lambda *_: made)
        monkeypatch.setattr("conformance.model.contract.load", lambda: None)
        monkeypatch.setattr("conformance.model.mode.from_contract", lambda *_: None)
        return made

    return row


def measure(count: int) -> list[float]:
    return lab_boots.measure(definition.load(), Progress(quiet=True), count=count, results=Path("results"))


def test_the_firmware_takes_turns_and_each_boot_is_timed(row: Callable[..., Row]) -> None:
    lab = row()
    assert len(measure(4)) == 4
    turns = ["bios", "efi", "secure-boot", "bios"]
    assert lab.happened == ["kvm at unix:///lab.sock", *turns, "removed", "lab stopped"]


@pytest.mark.parametrize(
    "end", [ImageFailure("no report"), libvirt.libvirtError("refused"), HarnessError("gone"), AssertionError("late")]
)
def test_a_boot_that_fails_ends_the_row_beside_the_console(row: Callable[..., Row], end: Exception) -> None:
    lab = row(None, end)
    with pytest.raises(LabError, match="came through 1 of 50 boots in a row, the next one being by efi: ") as caught:
        measure(50)
    assert str(end) in caught.value.message
    assert "its console ends with" in caught.value.message
    assert lab.happened[-3:] == ["bios", "removed", "lab stopped"]


def test_a_lab_that_ends_after_the_last_boot_has_not_come_through(row: Callable[..., Row]) -> None:
    row().ended = True
    with pytest.raises(LabError, match="the lab no longer runs"):
        measure(1)
