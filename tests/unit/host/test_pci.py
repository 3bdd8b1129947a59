"""Spare PCI devices, on a host that is a folder, and in the words of a host that was looked at."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from conformance.engine import labels
from conformance.engine.api_errors import engine_errors
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, HarnessError, Unsupported
from conformance.host import pci, vfio
from conformance.host.pci import Device, PciPool

CARD, DISK = "0000:00:04.0", "0000:00:05.0"

LOOKED = """\
iommu
0000:00:04.0 modalias pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00
0000:00:04.0 driver virtio-pci
0000:00:04.0 iommu_group 4
0000:00:05.0 modalias pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01
0000:00:05.0 driver ahci
0000:00:05.0 iommu_group 5
0000:00:05.0 disk sda
boot b001
"""


class Host:
    """A host that answers what it is asked, and notes what is changed there."""

    def __init__(self) -> None:
        self.looked = LOOKED
        self.used = ""
        self.drivers = {CARD: "virtio-pci", DISK: "ahci"}
        self.obeys = True
        self.refuses = ""
        self.asked: list[str] = []
        self.changed: list[tuple[str, str]] = []
        self.content = ""
        self.volumes: dict[str, dict[str, str]] = {}

    def create_volume(self, name: str, labels: dict[str, str]) -> dict[str, str]:
        self.volumes[name] = labels
        return {"Name": name}

    def remove_volume(self, name: str, force: bool) -> None:
        assert force
        del self.volumes[name]

    def output(self, command: list[str], **options: Any) -> str:
        with engine_errors():
            return self._output(command, **options)

    def _output(self, command: list[str], **options: Any) -> str:
        _sh, _c, script, _name, *words = command
        self.asked.append(script)
        match script:
            case pci.LOOK:
                return self.looked
            case pci.CLAIM:
                assert (words, options["devices"]) == (["/dev/sda"], ["/dev/sda:/dev/sda:r"])
                return self.used
            case pci.WHOSE:
                return f"{self.drivers[words[0]]}\n"
            case vfio.NOW:
                return f"{self.drivers[words[0]]}\n"
            case pci.APPEARED:
                return "sdb\n" if self.content else ""
        if "sha256sum" in script:
            assert options["devices"] == ["/dev/sdb:/dev/sdb:r"]
            done = subprocess.run(["sha256sum"], input=self.content, capture_output=True, text=True, check=True)
            return done.stdout
        return self._change(words[0]) if options.get("privileged") else ""

    def _change(self, script: str) -> str:
        if self.refuses:
            raise docker.errors.APIError("refused", explanation=self.refuses)
        address = next(line for line in script.splitlines() if line.startswith("PCI="))[4:]
        own = {CARD: "virtio-pci", DISK: "ahci"}[address]
        if self.obeys:
            self.drivers[address] = vfio.DRIVER if "modprobe" in script else own
        self.changed.append((address, self.drivers[address]))
        return f"{self.drivers[address]}\n"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a spare card and a spare disk controller."""
    made = Host()
    monkeypatch.setattr(HostShell, "output", lambda _shell, command, **options: made.output(command, **options))
    return made


@pytest.fixture
def pci_pool(host: Host) -> PciPool:
    """Both devices."""
    return named(host, CARD, DISK)


def named(host: Host, *addresses: str) -> PciPool:
    engine: Any = SimpleNamespace(api=host)
    return PciPool(HostShell(engine, "image", "run"), addresses)


def test_what_is_named_is_told_apart_by_what_it_is(pci_pool: PciPool, host: Host) -> None:
    assert pci_pool.device("card") == Device(CARD, "card", "virtio-pci", "4")
    assert pci_pool.device("disk") == Device(DISK, "disk", "ahci", "5")
    assert host.asked == [pci.LOOK, pci.CLAIM], "the host is looked at once"


def test_without_an_iommu_the_kernels_option_is_named(host: Host) -> None:
    host.looked = LOOKED.partition("\n")[2]
    for addresses in ((), (CARD,)):
        with pytest.raises(Unsupported, match=r"no IOMMU: .*intel_iommu=on"):
            _ = named(host, *addresses).devices


@pytest.mark.usefixtures("host")
def test_nothing_is_given_to_a_guest_unless_it_is_named(host: Host) -> None:
    host.looked = "iommu\n"
    with pytest.raises(Unsupported, match="--pci-device"):
        _ = named(host).devices
    host.looked = LOOKED
    with pytest.raises(Unsupported, match="no spare disk controller"):
        named(host, CARD).device("disk")
    assert named(host, CARD).device("card").address == CARD


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (f"{CARD} modalias", "0000:09:00.0 modalias", "no device at this address"),
        ("bc02sc00i00", "bc03sc00i00", "the probe has no driver for pci:v00001AF4"),
        (f"{CARD} iommu_group 4\n", "", "is in no IOMMU group"),
        ("iommu\n", f"iommu\n{CARD} beside 0000:00:04.1\n", "shares its IOMMU group with 0000:00:04.1"),
        ("iommu\n", f"iommu\n{CARD} up eth2\n", "its link eth2 is up"),
        ("driver virtio-pci", "driver vfio-pci", "no driver for it"),
        (f"{CARD} driver virtio-pci\n", "", "no driver for it"),
    ],
)
def test_what_is_not_spare_is_not_touched(host: Host, before: str, after: str, why: str) -> None:
    assert before in LOOKED
    host.looked = LOOKED.replace(before, after)
    with pytest.raises(HarnessError, match=why):
        named(host, CARD, DISK).bind()
    assert not host.changed


def test_a_disk_that_is_mounted_is_not_touched(pci_pool: PciPool, host: Host) -> None:
    host.used = "/dev/sda: Device or resource busy"
    with pytest.raises(HarnessError, match="in use: /dev/sda: Device or resource busy"):
        pci_pool.bind()
    assert not host.changed


def test_what_is_bound_is_given_back(pci_pool: PciPool, host: Host) -> None:
    assert pci_pool.bind() == ("/dev/vfio/4", "/dev/vfio/5")
    assert pci_pool.bind() == ("/dev/vfio/4", "/dev/vfio/5")
    assert host.changed == [(CARD, "vfio-pci"), (DISK, "vfio-pci")]
    pci_pool.restore()
    pci_pool.restore()
    assert host.changed[2:] == [(DISK, "ahci"), (CARD, "virtio-pci")]
    assert not host.volumes


def test_the_engine_remembers_a_device_before_it_is_taken_until_it_is_back(pci_pool: PciPool, host: Host) -> None:
    host.obeys = False
    with pytest.raises(Unsupported):
        pci_pool.bind()
    (marks,) = host.volumes.values()
    assert marks == {labels.RUN: "run", labels.IMAGE: "image", labels.PCI_DEVICE: f"{CARD} virtio-pci b001"}

    # The run is killed here; the next one knows the engine alone.
    host.obeys, host.drivers[CARD] = True, "vfio-pci"
    engine: Any = SimpleNamespace(api=host)
    vfio.CHANGE.undo(engine, {"Labels": marks})
    assert host.drivers[CARD] == "virtio-pci"


def test_a_device_that_the_host_does_not_take_back_stays_remembered(pci_pool: PciPool, host: Host) -> None:
    pci_pool.bind()
    host.obeys = False
    with pytest.raises(EngineError, match=f"does not take {DISK} back"):
        pci_pool.restore()
    assert len(host.volumes) == 2


def test_a_device_that_libvirt_takes_by_itself_is_remembered_as_well(pci_pool: PciPool, host: Host) -> None:
    card = pci_pool.device("card")
    assert pci_pool.device("card") == card
    (marks,) = host.volumes.values()
    # Not even an engine that starts no privileged container is at fault, as long as the host has its device.
    host.refuses = "unable to apply caps: operation not permitted"
    engine: Any = SimpleNamespace(api=host)
    vfio.CHANGE.undo(engine, {"Labels": marks})
    host.drivers[CARD] = "vfio-pci"
    with pytest.raises(EngineError, match=f"does not take {CARD} back: vfio-pci"):
        vfio.CHANGE.undo(engine, {"Labels": marks})


def test_what_the_engine_does_not_let_change_is_not_remembered(pci_pool: PciPool, host: Host) -> None:
    host.refuses = "unable to apply caps: operation not permitted"
    with pytest.raises(Unsupported):
        pci_pool.bind()
    assert not host.volumes
    pci_pool.restore()


def test_a_device_that_was_bound_is_bound_again_after_the_host_had_it(pci_pool: PciPool, host: Host) -> None:
    pci_pool.bind()
    with pci_pool.on_host(pci_pool.device("disk")) as driver:
        assert driver == "ahci"
        assert host.drivers == {CARD: "vfio-pci", DISK: "ahci"}
    assert host.drivers == {CARD: "vfio-pci", DISK: "vfio-pci"}


def test_what_libvirt_bound_libvirt_gives_back(pci_pool: PciPool, host: Host) -> None:
    host.drivers[CARD] = "vfio-pci"
    with pci_pool.on_host(pci_pool.device("card")) as driver:
        assert driver == "vfio-pci", "as it is, and not as it should be"
    assert not host.changed


def test_a_host_that_does_not_obey_is_told(pci_pool: PciPool, host: Host) -> None:
    host.obeys = False
    with pytest.raises(Unsupported, match=f"does not bind {CARD} to vfio-pci: virtio-pci"):
        pci_pool.bind()
    host.drivers[CARD] = "vfio-pci"
    with pytest.raises(EngineError, match=f"does not take {CARD} back: vfio-pci\n  what to do: .*PCI={CARD}; echo"):
        pci_pool.restore()


@pytest.mark.parametrize(
    ("refusal", "error"),
    [("unable to apply caps: operation not permitted", Unsupported), ("no space left on device", EngineError)],
)
def test_an_engine_that_starts_no_privileged_container_cannot_be_asked(
    pci_pool: PciPool, host: Host, refusal: str, error: type[Exception]
) -> None:
    host.refuses = refusal
    with pytest.raises(error):
        pci_pool.bind()


def test_a_disk_holds_what_was_written_or_something_else(pci_pool: PciPool, host: Host) -> None:
    controller = pci_pool.device("disk")
    with pytest.raises(EngineError, match="no disk behind"):
        pci_pool.holds(controller, b"written")
    host.content = "written"
    assert pci_pool.holds(controller, b"written")
    assert not pci_pool.holds(controller, b"something else")


@pytest.mark.parametrize(
    ("word", "address"), [("00:04.0", CARD), (CARD, CARD), ("0000:0A:1F.7", "0000:0a:1f.7"), ("0001:00:00.0", None)]
)
def test_an_address_is_whole(word: str, address: str | None) -> None:
    assert pci.address(word) == (address or word)


@pytest.mark.parametrize("word", ["", "eth0", "4", "00:04", "00:04.8", "00:24.0", "0000:00:04.0/driver", "../00:04.0"])
def test_what_is_no_address_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="not the address"):
        pci.address(word)


# ------------------------------------------------------------------------------------------------- the scripts


Run = Callable[..., str]

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def sysfs(tmp_path: Path) -> Run:
    """A host's /sys with a card whose link is up, beside it another device in its group, and a disk; runs a script."""
    devices = tmp_path / "devices/pci0000:00"
    for address, class_ in ((CARD, "0x020000"), ("0000:00:04.1", "0x020000"), ("0000:00:01.0", "0x060400")):
        device = devices / address
        device.mkdir(parents=True)
        (device / "class").write_text(f"{class_}\n")
    card = devices / CARD
    (card / "modalias").write_text("pci:v00001AF4\n")
    places = {
        "bus/pci/drivers/virtio-pci": (),
        "kernel/iommu_groups/7/devices": (),
        f"devices/pci0000:00/{CARD}/virtio3/net/eth2": ("class/net/eth2",),
        "devices/virtual/net/lo": ("class/net/lo",),
        f"devices/pci0000:00/{CARD}/ata1/block/sda": ("block/sda",),
        "bus/pci/devices": (),
    }
    for place, links in places.items():
        (tmp_path / place).mkdir(parents=True)
        if "/net/" in place:
            (tmp_path / place / "flags").write_text("0x1003\n")
        for link in links:
            (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / link).symlink_to(tmp_path / place)
    for address in (CARD, "0000:00:04.1", "0000:00:01.0"):
        (tmp_path / "kernel/iommu_groups/7/devices" / address).symlink_to(devices / address)
    (card / "driver").symlink_to(tmp_path / "bus/pci/drivers/virtio-pci")
    (card / "iommu_group").symlink_to(tmp_path / "kernel/iommu_groups/7")
    (tmp_path / "bus/pci/devices" / CARD).symlink_to(card)

    def run(script: str, *words: str) -> str:
        script = re.sub("(?<!/proc)/sys/", f"{tmp_path}/", script).replace("tries=300", "tries=1")
        return subprocess.run(["sh", "-c", script, "sh", *words], capture_output=True, text=True, check=True).stdout

    return run


def test_a_host_is_looked_at(sysfs: Run) -> None:
    boot, *looked = sysfs(pci.LOOK, CARD, "0000:00:09.0").splitlines()
    assert boot == f"boot {BOOT}"
    assert looked == [
        "iommu",
        f"{CARD} modalias pci:v00001AF4",
        f"{CARD} driver virtio-pci",
        f"{CARD} iommu_group 7",
        f"{CARD} beside 0000:00:04.1",
        f"{CARD} up eth2",
        f"{CARD} disk sda",
    ]


def reclaimed(sysfs: Run, boot: str = BOOT, address: str = CARD) -> str:
    return sysfs("\n".join(["set -e", f"PCI={address}", f"BOOT={boot}", *vfio.RECLAIMING])).strip()


@pytest.mark.parametrize("driver", ["vfio-pci", ""])
def test_what_a_killed_run_took_is_reclaimed(sysfs: Run, tmp_path: Path, driver: str) -> None:
    card = tmp_path / "bus/pci/devices" / CARD
    (card / "driver_override").write_text("vfio-pci\n")
    (card / "driver").unlink()
    if driver:
        (tmp_path / "bus/pci/drivers/vfio-pci").mkdir()
        (card / "driver").symlink_to(tmp_path / "bus/pci/drivers/vfio-pci")
    assert reclaimed(sysfs) == ""
    assert (card / "driver_override").read_text() == "\n"
    assert (tmp_path / "bus/pci/drivers_probe").read_text() == f"{CARD}\n"
    assert not driver or (card / "driver/unbind").read_text() == f"{CARD}\n"


@pytest.mark.parametrize(
    ("boot", "address", "override"),
    [(BOOT, CARD, ""), ("another", CARD, "vfio-pci"), (BOOT, "0000:00:09.0", "vfio-pci")],
)
def test_a_device_that_its_driver_has_or_another_boot_is_left(
    sysfs: Run, tmp_path: Path, boot: str, address: str, override: str
) -> None:
    card = tmp_path / "bus/pci/devices" / CARD
    (card / "driver_override").write_text("vfio-pci\n")
    assert reclaimed(sysfs, boot, address) == vfio.LEFT
    assert (card / "driver_override").read_text().strip() == override
    assert not (tmp_path / "bus/pci/drivers_probe").exists()
    assert not (card / "driver/unbind").exists()


def test_whose_a_device_is_and_which_disk_it_has_is_waited_for(sysfs: Run) -> None:
    assert sysfs(pci.WHOSE, CARD, "virtio-pci") == "virtio-pci\n"
    assert sysfs(pci.WHOSE, CARD, "other") == "virtio-pci\n"
    assert sysfs(pci.APPEARED, CARD) == "sda\n"
    assert sysfs(pci.APPEARED, "0000:00:09.0") == ""
