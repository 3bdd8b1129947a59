"""The installation of a Windows, driven from its first key to its report by the stand-in for one, and its failures.

Nothing here is evidence that a Windows installs: see fixtures/isos/standin/README.md.
"""

import dataclasses
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from conformance.container.container import READY_SECONDS
from conformance.engine import client
from conformance.guests import install_watch
from conformance.guests.devices import Firmware
from conformance.guests.factory import Guests
from conformance.guests.guest import GuestFailure
from conformance.guests.request import Installation
from conformance.installers.windows import answers, standin
from conformance.installers.windows.medium import ANSWER_FILE
from conformance.installers.windows.user_iso import Windows
from conformance.installers.windows.wim import Edition
from conformance.media import formats
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.run import preparation as runs
from conformance.util import paths
from conformance.util.progress import Progress

pytestmark = pytest.mark.timeout(1800)

ELEVEN = Edition(6, "Windows 11 Pro", "Professional", "Client", "amd64", 26100, "en-US")
TEN = Edition(1, "Windows 10 Pro", "Professional", "Client", "amd64", 19041, "de-DE")
ARM = dataclasses.replace(ELEVEN, architecture="arm64")

SECONDS = 600
"""Deadline of each part; beside load, an emulated one may take minutes."""


@pytest.fixture(scope="module")
def guests() -> Iterator[Guests]:
    claims = contracts.load()
    # Docker's AppArmor profile would only hide what the guests do.
    confined = "apparmor" in client.connect().fingerprint().security
    asked = mode.from_contract(claims, "unprivileged-unconfined" if confined else "unprivileged")
    with runs.unrecorded(
        claims, Progress(), tag=None, host_name=None, host_facts={}, ready_seconds=READY_SECONDS
    ) as run:
        container = run.container(asked, network=run.peer_network.network).start()
        try:
            container.wait_until_ready()
            yield Guests(container, run.probe, run.peer_network, "tcg", print)
        finally:
            container.remove()


def drivers(folder: Path, *names: str) -> Path:
    """Write a medium with these drivers, in the folders that virtio-win has for them, and return where it is."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, vol_ident="VIRTIO-WIN", joliet=3)
    for name in names:
        place = ""
        for part in (name, "w11", "amd64"):
            place += f"/{part}"
            image.add_directory(place.upper(), joliet_path=place)
        text = b"[Version]\r\n"
        file = f"{place}/{name.lower()}.inf"
        image.add_fp(io.BytesIO(text), len(text), f"{file.upper()};1", joliet_path=file)
    path = folder / "drivers.iso"
    image.write(str(path))
    image.close()
    return path


def installation(folder: Path, firmware: Firmware, edition: Edition = ELEVEN, *names: str) -> Installation:
    """Return what the suite installs, with the stand-in's medium, in a machine that is no larger than a Linux needs."""
    wanted = Windows(standin.ensure(print), drivers(folder, *names), edition, firmware)
    return dataclasses.replace(wanted.installation(folder), memory_mib=1024, cpus=1)


@pytest.mark.parametrize(("firmware", "partition"), [("bios", 2), ("secure-boot", 3)])
def test_setup_obeys_the_answers_and_what_it_installs_reports(
    guests: Guests, tmp_path: Path, firmware: Firmware, partition: int
) -> None:
    what = installation(tmp_path, firmware, ELEVEN, *answers.DRIVERS)
    with guests.installing(what, firmware=firmware) as machine:
        machine.press_any_key()
        machine.until("end", "installing", SECONDS)
        guest = machine.wait_for_end(SECONDS)
        assert guests.pool.allocation(guest.spec.disk) < what.disk_bytes / 16, "only what is written takes room"

    assert guest.report.failures() == []
    system = guest.report["system"]
    assert system["root"] == f"/dev/vda{partition}"
    assert system["firmware"] == ("bios" if firmware == "bios" else "efi")
    assert system["secure_boot"] == guest.report["tpm"]["ready"] == (firmware == "secure-boot")
    assert system["bytes"] == what.disk_bytes
    assert (system["account"], system["computer"]) == (answers.USER, "installed")
    assert guest.report["link"]["mac"] == guest.mac
    assert guest.report["lease"]["address"] in [lease["ipaddr"] for lease in guest.leases]
    assert guest.report["exchange"].json("reply")["query"] == guest.nonce
    for driver in answers.DRIVERS:
        assert rf"driver {driver.lower()}.inf from E:\{driver}\w11\amd64" in guest.console

    assert not system["release"].startswith("Microsoft Windows"), "what the suite asks for"
    assert system["build"] != str(ELEVEN.build)


def altered(folder: Path, old: str, new: str) -> Path:
    """Write an answer medium in which something is not as it should be, and return where it is."""
    content = answers.answers(ELEVEN, "bios")
    assert old.encode() in content
    path = folder / "altered.iso"
    path.write_bytes(formats.data_iso("ANSWERS", {ANSWER_FILE: content.replace(old.encode(), new.encode())}))
    return path


def failure(guests: Guests, what: Installation, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return why an installation failed, which it has to; its screenshots are looked at, and removed."""
    monkeypatch.setitem(install_watch.STALL_SECONDS, "tcg", 30)
    monkeypatch.setattr(install_watch, "TELL_SECONDS", 5)
    with guests.installing(what, firmware="bios") as machine:
        machine.press_any_key()
        with pytest.raises(GuestFailure) as caught:
            machine.until("end", "installing", SECONDS)
    told = str(caught.value)
    pictures = re.search(r"^screenshot: (.*)$", told, re.MULTILINE)
    assert pictures, told
    for picture in pictures[1].split(", "):
        file = paths.PROJECT / picture
        assert file.read_bytes().startswith(b"\x89PNG")
        file.unlink()
    return told


STALLED = r"^installing: no activity on console and disk for 0 min 3\d s; its console ends with '.*"


def test_without_its_driver_the_disk_is_not_found(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = failure(guests, installation(tmp_path, "bios", ELEVEN, "NetKVM"), monkeypatch)
    assert re.search(STALLED + "no disk found", told), told
    assert "stand-in: no disk found" in told.partition("the screen shows:")[2]


def test_drivers_of_another_version_are_not_taken(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = failure(guests, installation(tmp_path, "bios", TEN, *answers.DRIVERS), monkeypatch)
    assert re.search(STALLED + "no disk found", told), told


def test_answers_for_another_architecture_answer_nothing(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = failure(guests, installation(tmp_path, "bios", ARM, *answers.DRIVERS), monkeypatch)
    assert re.search(STALLED + "no components for amd64, but for arm64", told), told


def test_a_setup_that_waits_at_a_dialog_for_ever_is_given_up(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = installation(tmp_path, "bios", ELEVEN, *answers.DRIVERS)
    told = failure(guests, dataclasses.replace(what, more=what.more[:1]), monkeypatch)
    assert re.search(STALLED + "no autounattend.xml on any CD-ROM. Which language", told), told


def test_a_reboot_loop_is_noticed_by_its_reboots(
    guests: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_watch, "REBOOTS", 2)
    what = installation(tmp_path, "bios", ELEVEN, *answers.DRIVERS)
    long = altered(tmp_path, ">installed<", ">a-name-that-is-too-long<")
    told = failure(guests, dataclasses.replace(what, more=(what.more[0], long)), monkeypatch)
    assert re.search(r"^installing: it has rebooted \d+ times; its console ends with '", told), told
    assert "has more than 15 characters: restarting" in told
