"""Guests: one boot of the probe as a transient domain, and what was seen of it."""

import base64
import contextlib
import dataclasses
import json
import re
import secrets
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import libvirt
import libvirt_qemu

from conformance.container.container import Container
from conformance.errors import ImageFailure, Unsupported
from conformance.guests.screen import Reading, Screen, save, small_png
from conformance.media.probe import CMDLINE
from conformance.media.probe_report import Event, Report
from conformance.model.verdict import FULL_DISK
from conformance.util import paths
from conformance.util.wait import DeadlineExpired, for_image, wait_for

Firmware = Literal["bios", "efi", "secure-boot"]
"""``secure-boot`` is UEFI that enforces Secure Boot, with the keys that machines are sold with."""

Accel = Literal["kvm", "tcg"]

Place = Literal["console", "screen"]
"""Where a guest shows text: on its first serial port, or on the screen of its video card."""

DiskFormat = Literal["raw", "qcow2"]

Direct = Literal["bridge", "private", "vepa"]
"""How a macvtap interface goes about its neighbours on the same link (libvirt's domain format, "Direct attachment")."""

BOOT_SECONDS = 150
"""From resuming the domain to its own power-off; an emulated UEFI boot takes 20 s, beside load much longer."""

AUTOSTART_SECONDS = 40
"""From libvirt's answer to the start of a domain that is to start with it; tenths of a second, but for slow hosts."""

ANSWER_SECONDS = 150
"""From an order on the console to its answer; the guest itself gives up after 90 s at the latest."""

LINGER_SECONDS = 15
"""From a guest's power-off to the end of its domain; a daemon that may not end QEMU leaves it there for ever."""

LOOK_SECONDS = 1
"""Between two looks at a screen."""

PICTURES = 12
"""So many screenshots of a guest are kept, the newest ones that differ."""

LOADER_BYTES = 16 * 2**20
"""More than a loader reads before it asks for a key, and less than the system that it loads then."""

KEY_ENTER = 28
"""Linux' number for the key (input-event-codes.h)."""

DRAIN_SECONDS = 5

MEMORY_MIB = 512
"""A UEFI guest with 256 MiB ends in GRUB's "out of memory" on some hosts."""

CONSOLE_BYTES = 2**20
"""So much of a console is kept; a probe writes 10 KiB, and firmware and loaders not much more."""

CONSOLE_EXCERPT = 2500
"""Characters of the console's end that go into an error."""

LINE_EXCERPT = 80
"""Characters of a last line's end that go into an error's first one."""


@dataclass(frozen=True)
class Tuning:
    """How a guest is bound to parts of its host; each field leaves it free by default.

    Attributes:
        processors: where each of its processors runs: a list of the host's processors, as Linux writes them.
        emulator: where QEMU's own threads run; the same.
        nodes: the host's memory nodes that its memory is bound to (``strict``); the same.
        locked: its memory never leaves the host's.
        hard_limit_mib: how much memory QEMU may have, and lock, in MiB.
        huge_pages: its memory is made of the host's huge pages, of their default size.
    """

    processors: str = ""
    emulator: str = ""
    nodes: str = ""
    locked: bool = False
    hard_limit_mib: int = 0
    huge_pages: bool = False


@dataclass(frozen=True)
class GuestSpec:
    """What a guest is made of.

    Attributes:
        firmware: BIOS, UEFI, or UEFI with Secure Boot.
        accel: KVM or emulation.
        iso: volume to boot from as a CD-ROM; without it the kernel is loaded directly.
        more_isos: volumes of further CD-ROMs, which are not booted from.
        kernel: path in the container of the kernel for a direct boot.
        initrd: path in the container of its initramfs.
        disk: volume of the VirtIO disk, or empty for none.
        disk_format: how the volume holds the disk's bytes: as they are, or as qcow2, which keeps snapshots.
        drive: there is an empty CD-ROM drive.
        adjustable: there is a balloon for its memory, and room for a second processor.
        network: libvirt network of the VirtIO network card, or empty for none.
        macvtap: host link under a macvtap interface, or empty for none.
        macvtap_mode: that interface's mode.
        hostdev: address of a PCI device of the host, or empty for none.
        managed: libvirt takes that device from the host and gives it back by itself.
        firmware_on_serial: what the BIOS and its loaders write to the screen is on the serial console too, as
            UEFI's is anyway.
        nvram: path in the container of the file that keeps the UEFI variables; libvirt's own choice if empty.
        console_log: path in the container of a file that QEMU keeps a copy of the console in; none if empty.
        screen: whether there is a video card.
        tpm: whether there is an emulated TPM 2.0.
        memory_mib: how much memory there is, in MiB.
        cpus: how many processors there are.
        tuning: how it is bound to parts of its host.
        installs: it boots from its disk as soon as that can be booted, until then from the CD-ROM, and may reboot.
        unbootable_reason: why nobody can wait for what it says, though it may start; empty if one can.
    """

    firmware: Firmware
    accel: Accel
    pool: str
    iso: str = ""
    kernel: str = ""
    initrd: str = ""
    disk: str = ""
    disk_format: DiskFormat = "raw"
    drive: bool = False
    adjustable: bool = False
    network: str = ""
    macvtap: str = ""
    macvtap_mode: Direct = "bridge"
    hostdev: str = ""
    managed: bool = True
    firmware_on_serial: bool = False
    console_log: str = ""
    nvram: str = ""
    screen: bool = False
    tpm: bool = False
    memory_mib: int = MEMORY_MIB
    more_isos: tuple[str, ...] = ()
    cpus: int = 1
    tuning: Tuning = Tuning()
    installs: bool = False
    unbootable_reason: str = ""


@dataclass
class Guest:
    """A boot that has ended.

    Attributes:
        name: the domain's name.
        nonce: what this boot was told to put on each line of its report.
        shape: what it was made of.
        xml: the domain's definition.
        report: what the guest said.
        console: everything on the serial console.
        screen: what was read on the screen when it was last looked at.
        picture: where screenshots of a screen that did not show what was waited for were put.
        screenshot: of the screen that was judged, an image file; empty where none was.
        mac: address of its network card.
        kvm: QEMU's own answer to ``query-kvm``: ``enabled`` and ``present``.
        open_files: what the QEMU process held open while the guest ran.
        seconds: from the API call that starts the domain to its end.
    """

    name: str
    nonce: str
    shape: GuestSpec
    xml: str
    mac: str
    report: Report = field(default_factory=lambda: Report("", ""))
    console: str = ""
    screen: Reading = field(default_factory=Reading)
    picture: str = ""
    screenshot: bytes = b""
    kvm: dict[str, Any] = field(default_factory=dict)
    open_files: frozenset[str] = frozenset()
    leases: list[dict[str, Any]] = field(default_factory=list)
    """What libvirt's network knew of the guest's leases while it ran."""
    seconds: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """Return what a record keeps of this boot."""
        screenshot = base64.b64encode(small_png(self.screenshot)).decode() if self.screenshot else None
        return {
            "domain": self.name,
            "firmware": self.shape.firmware,
            "kvm": self.kvm,
            "report": self.report.as_json(),
            "seconds": round(self.seconds, 2),
            "xml": self.xml,
            **({"screenshot": screenshot} if screenshot else {}),
        }


CONSOLE_LOG_SECONDS = 0.5
"""Between two looks into a console's log, each of them a program that is started in the container."""

NO_MODULE = "Invalid argument"
"""What the kernel says of a process's label where no security module gives any (security_getprocattr)."""


class GuestFailure(ImageFailure):
    """A guest started, and did not get to its end.

    Args:
        message: what happened.
        container: where; its log and the engine's words are added.
        guest: as far as it got; its console and QEMU's log are added.
    """

    def __init__(self, message: str, container: Container, guest: Guest) -> None:
        super().__init__(f"{message}\n{_seen(container, guest)}")
        self.guest = guest


def domain_xml(name: str, shape: GuestSpec, mac: str, orders: Mapping[str, str]) -> str:
    """Write the definition of a probe guest.

    The orders are SMBIOS OEM strings: they reach a guest that boots by BIOS, by UEFI and directly alike, and
    the definition alone is enough to repeat the boot.
    """
    domain = ET.Element("domain", type="kvm" if shape.accel == "kvm" else "qemu")
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "memory", unit="MiB").text = str(shape.memory_mib)
    ET.SubElement(domain, "vcpu", current=str(shape.cpus)).text = str(shape.cpus + shape.adjustable)
    domain.extend(_tuned(shape.tuning, shape.cpus))

    uefi, secure = shape.firmware != "bios", shape.firmware == "secure-boot"
    firmware = ET.SubElement(domain, "os", {"firmware": "efi"} if uefi else {})
    ET.SubElement(firmware, "type", arch="x86_64", machine="q35").text = "hvm"
    if uefi:
        # Unless told, libvirt prefers the Secure Boot firmware, which refuses an unsigned loader.
        chosen = ET.SubElement(firmware, "firmware")
        for feature in ("secure-boot", "enrolled-keys"):
            ET.SubElement(chosen, "feature", enabled="yes" if secure else "no", name=feature)
    if shape.firmware_on_serial and not uefi:
        ET.SubElement(firmware, "bios", useserial="yes")
    if shape.nvram:
        ET.SubElement(firmware, "nvram").text = shape.nvram
    if shape.kernel:
        ET.SubElement(firmware, "kernel").text = shape.kernel
        ET.SubElement(firmware, "initrd").text = shape.initrd
        ET.SubElement(firmware, "cmdline").text = CMDLINE
    else:
        for device in ("hd", "cdrom") if shape.installs else ("cdrom",):
            ET.SubElement(firmware, "boot", dev=device)
    ET.SubElement(firmware, "smbios", mode="sysinfo")

    strings = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "oemStrings")
    for key, value in orders.items():
        ET.SubElement(strings, "entry").text = f"probe.{key}={value}"

    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if secure:
        # Only the firmware, in system management mode, may change its variables.
        ET.SubElement(features, "smm", state="on")
    if shape.accel == "kvm":
        ET.SubElement(domain, "cpu", mode="host-passthrough", migratable="off")
    # A guest that crashes has not done what it was asked for, nor has one that reboots, but for an installer.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        ET.SubElement(domain, event).text = "restart" if shape.installs and event == "on_reboot" else "destroy"

    devices = ET.SubElement(domain, "devices")
    if shape.iso or shape.drive:
        devices.append(_cdrom(shape.pool, shape.iso))
    for number, volume in enumerate(shape.more_isos, start=1):
        devices.append(_cdrom(shape.pool, volume, number))
    if shape.disk:
        devices.append(_disk(shape.pool, shape.disk, "vda", shape.disk_format))
    if shape.network:
        devices.append(_card("network", mac, network=shape.network))
    elif shape.macvtap:
        devices.append(_card("direct", mac, dev=shape.macvtap, mode=shape.macvtap_mode))
    if shape.hostdev:
        devices.append(_hostdev(shape.hostdev, managed=shape.managed))
    serial = ET.SubElement(devices, "serial", type="pty")
    if shape.console_log:
        ET.SubElement(serial, "log", file=shape.console_log, append="off")
    ET.SubElement(serial, "target", port="0")
    if shape.tpm:
        ET.SubElement(ET.SubElement(devices, "tpm", model="tpm-crb"), "backend", type="emulator", version="2.0")
    if shape.screen:
        # A card without a display: nothing listens, and screenshots come over the API.
        ET.SubElement(ET.SubElement(devices, "video"), "model", type="vga")
    ET.SubElement(devices, "memballoon", model="virtio" if shape.adjustable else "none")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def _tuned(tuning: Tuning, cpus: int) -> Iterator[ET.Element]:
    """Describe how a guest with so many processors is bound to parts of its host."""
    if tuning.hard_limit_mib:
        limits = ET.Element("memtune")
        ET.SubElement(limits, "hard_limit", unit="MiB").text = str(tuning.hard_limit_mib)
        yield limits
    if tuning.locked or tuning.huge_pages:
        memory = ET.Element("memoryBacking")
        if tuning.huge_pages:
            ET.SubElement(memory, "hugepages")
        if tuning.locked:
            ET.SubElement(memory, "locked")
        yield memory
    if tuning.processors or tuning.emulator:
        processors = ET.Element("cputune")
        for number in range(cpus if tuning.processors else 0):
            ET.SubElement(processors, "vcpupin", vcpu=str(number), cpuset=tuning.processors)
        if tuning.emulator:
            ET.SubElement(processors, "emulatorpin", cpuset=tuning.emulator)
        yield processors
    if tuning.nodes:
        nodes = ET.Element("numatune")
        ET.SubElement(nodes, "memory", mode="strict", nodeset=tuning.nodes)
        yield nodes


def _cdrom(pool: str, volume: str, number: int = 0) -> ET.Element:
    """Describe a CD-ROM drive, by its number from 0; without a volume it is empty."""
    cdrom = ET.Element("disk", type="volume" if volume else "file", device="cdrom")
    ET.SubElement(cdrom, "driver", name="qemu", type="raw")
    if volume:
        ET.SubElement(cdrom, "source", pool=pool, volume=volume)
    ET.SubElement(cdrom, "target", dev=f"sd{'abcd'[number]}", bus="sata")
    ET.SubElement(cdrom, "readonly")
    return cdrom


def _card(kind: str, mac: str, **source: str) -> ET.Element:
    card = ET.Element("interface", type=kind)
    ET.SubElement(card, "mac", address=mac)
    ET.SubElement(card, "source", source)
    ET.SubElement(card, "model", type="virtio")
    return card


def _hostdev(address: str, *, managed: bool) -> ET.Element:
    device = ET.Element("hostdev", mode="subsystem", type="pci", managed="yes" if managed else "no")
    parts = zip(("domain", "bus", "slot", "function"), re.split("[:.]", address), strict=True)
    ET.SubElement(ET.SubElement(device, "source"), "address", {name: f"0x{part}" for name, part in parts})
    return device


def _disk(pool: str, volume: str, name: str, kind: DiskFormat = "raw") -> ET.Element:
    disk = ET.Element("disk", type="volume", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type=kind, cache="none", discard="unmap")
    ET.SubElement(disk, "source", pool=pool, volume=volume)
    ET.SubElement(disk, "target", dev=name, bus="virtio")
    return disk


class _Console:
    """Collects what comes over a domain's serial console, byte for byte."""

    def __init__(self, connection: "libvirt.virConnect", domain: "libvirt.virDomain") -> None:
        self._text = bytearray()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, self._stream, 0)
        self._stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR,
            self._ready,
            None,
        )

    def _ready(self, stream: "libvirt.virStream", events: int, _opaque: object) -> None:
        ended = bool(events & (libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR))
        with contextlib.suppress(libvirt.libvirtError):
            while True:
                received = stream.recv(65536)
                if not isinstance(received, bytes):  # -2: nothing more for now
                    break
                if not received:
                    ended = True
                    break
                with self._lock:
                    self._text += received[: CONSOLE_BYTES - len(self._text)]
        if ended:
            # A stream at its end stays readable: without this the event loop would spin.
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._ended.set()

    def send(self, text: str) -> None:
        """Type a text.

        Raises:
            ImageLate: the guest's serial port does not take it.
        """
        rest = text.encode()

        def sent() -> bool:
            nonlocal rest
            rest = rest[max(self._stream.send(rest), 0) :]  # -2: not now
            return not rest

        with for_image():
            wait_for("the guest's serial port to take an order", sent, seconds=ANSWER_SECONDS)

    def drain(self) -> None:
        """Wait for the last bytes: a domain can be gone before they have arrived."""
        self._ended.wait(DRAIN_SECONDS)

    @property
    def full(self) -> bool:
        """Say whether more came than is kept."""
        with self._lock:
            return len(self._text) >= CONSOLE_BYTES

    @property
    def text(self) -> str:
        with self._lock:
            return self._text.decode(errors="replace")

    def close(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            # An aborted stream is at its end as well, and would keep the event loop spinning for the rest of the run.
            if not self._ended.is_set():
                self._stream.eventRemoveCallback()
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()


class RunningGuest:
    """A probe guest that runs: it can be waited for, and where it was told to stay, be asked more.

    Attributes:
        guest: what is known of it so far.
        domain: libvirt's handle, for what is done to a running domain.
    """

    def __init__(
        self, container: Container, connection: "libvirt.virConnect", domain: "libvirt.virDomain", guest: Guest
    ) -> None:
        self.guest = guest
        self.domain = domain
        self._container = container
        self._connection = connection
        self._console = _Console(connection, domain)
        self._screen = Screen(connection, domain) if guest.shape.screen else None
        self._started = time.monotonic()
        self._asked = 0
        self.unresponsive = False
        self._powered_off: float | None = None
        """Whether it owes an answer: whoever asks it next would wait in vain, and be blamed for it."""
        self._next_look = 0.0
        self._pictures: deque[bytes] = deque(maxlen=PICTURES)
        self._past = Report("", guest.nonce)
        """What it reported over earlier consoles, and the number with which it went on over this one."""
        self._heard = ""
        """What was on those consoles."""
        self.reboots = 0
        """How often it has reset itself; counted of one that installs, since others end then."""
        self._counting: int | None = None
        if guest.shape.installs:
            self._counting = connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._rebooted, None
            )

    def _rebooted(self, _connection: object, _domain: object, _opaque: object) -> None:
        self.reboots += 1

    def wait_for_end(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Wait until the guest has powered itself off, and return it with its whole report.

        Raises:
            GuestFailure: it did not get to its end within ``seconds``.
        """
        trouble = self._wait("to report and power off", self._ended, seconds)
        if not trouble:
            self._console.drain()
        self.read()
        if not self.guest.report.complete:
            self._keep_pictures()
            raise self._failure(trouble or f"guest {self.guest.name} ended without finishing its report")
        return self.guest

    def wait_for_event(
        self, name: str, seconds: float = BOOT_SECONDS, *, meanwhile: Callable[[], str] = lambda: ""
    ) -> Event:
        """Wait until the guest has reported an event, and return it.

        Args:
            name: the event's.
            seconds: deadline.
            meanwhile: called again and again; a text that it returns is why there is no use in waiting any longer.

        Raises:
            GuestFailure: it did not, or it has ended.
        """

        def look(report: Report) -> Event | None:
            if trouble := meanwhile():
                raise _Stopped(trouble)
            return report.last(name)

        return self._wait_for_report(f"to report {name!r}", look, seconds)

    def shut_down(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Press the power button, and wait until the guest has obeyed and ended its report.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not obey within ``seconds``.
        """
        self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        return self.wait_for_end(seconds)

    def press_any_key(self, seconds: float = BOOT_SECONDS) -> None:
        """Press a key until the guest reads from its medium what no loader has: a medium may want one to be booted.

        Raises:
            libvirt.libvirtError: the daemon refused, or the guest has ended.
            GuestFailure: it did not read so much within ``seconds``.
        """

        def reads() -> bool:
            if self.domain.blockStats("sda")[1] > LOADER_BYTES:
                return True
            self.domain.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 50, [KEY_ENTER], 1, 0)
            return False

        trouble = self._wait("to boot from its medium", reads, seconds, interval=LOOK_SECONDS)
        if trouble:
            self.picture()
            self._keep_pictures()
            raise self._failure(trouble)

    @property
    def last_line(self) -> str:
        """Return the newest line on the console that has something in it, without what only moves it to its place."""
        lines = [line for line in plain(self.read().console).splitlines() if line.strip()]
        return " ".join(lines[-1].split()) if lines else ""

    def activity(self) -> tuple[int, ...]:
        """Return numbers that change with what the guest writes to its console, and does with its disk."""
        moved: tuple[int, ...] = ()
        with contextlib.suppress(libvirt.libvirtError):  # it may end at any moment
            moved = tuple(self.domain.blockStats("vda")[:4]) if self.guest.shape.disk else ()
        return (len(self._console.text), *moved)

    def picture(self) -> None:
        """Take a screenshot, of which the newest are kept for whoever has to find out why the guest failed."""
        self._look()
        if self._screen and self._screen.picture and self._screen.picture not in self._pictures:
            self._pictures.append(self._screen.picture)

    def ask(self, what: str, *, seconds: float = ANSWER_SECONDS, **arguments: str) -> Event:
        """Ask a guest that stays for one more thing, and return the event of that name.

        Args:
            what: a topic of the probe's protocol.
            seconds: deadline for the answer.
            arguments: further words of the order, such as ``device="vdb"``.

        Raises:
            GuestFailure: it reports a failure, does not answer, or has ended.
        """
        self._asked += 1
        tag = str(self._asked)
        before = len(self.read().report.events)
        words = {"ask": what, "tag": tag, **arguments}
        self._console.send(" ".join(f"{key}={value}" for key, value in words.items()) + "\n")

        def answered(report: Report) -> Event | None:
            last = report.last("answered")
            return last if last and last["tag"] == tag else None

        self._wait_for_report(f"to answer {what!r}", answered, seconds)
        for event in self.guest.report.events[before:]:
            if event.name == "failure":
                raise self._failure(f"guest {self.guest.name}, asked for {what}: {event['message']}")
            if event.name == what:
                return event
        raise self._failure(f"guest {self.guest.name} answered {what!r} with nothing")

    def ask_until(self, what: str, holds: Callable[[Event], bool], *, seconds: float = ANSWER_SECONDS) -> Event:
        """Ask again until an answer is as it should be, and return that; for what a guest does in its own time.

        Raises:
            GuestFailure: as :meth:`ask`, or no answer within ``seconds`` was; says what the last one was.
        """
        last: list[Event] = []

        def asked() -> bool:
            last[:] = [self.ask(what)]
            return holds(last[0])

        trouble = self._wait(f"to say of {what!r} what it should", asked, seconds)
        if trouble:
            raise self._failure(f"{trouble}; it said {last[0].facts}")
        return last[0]

    @property
    def alive(self) -> bool:
        """Say whether the domain is still there, over a connection that is."""
        try:
            return bool(self.domain.isActive())
        except libvirt.libvirtError:
            return False

    @contextlib.contextmanager
    def plugged(self, volume: str) -> Iterator[None]:
        """Have a volume plugged in as disk vdb for as long as this lasts.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not let go of it.
        """
        with self._attached(_disk(self.guest.shape.pool, volume, "vdb"), "vdb"):
            yield

    @contextlib.contextmanager
    def plugged_into(self, network: "libvirt.virNetwork") -> Iterator[None]:
        """Have a second network card plugged into a network for as long as this lasts.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not let go of it.
        """
        mac = _new_mac()
        with self._attached(_card("network", mac, network=network.name()), mac):
            yield

    @property
    def address(self) -> str:
        """Return the address of its lease; raises ImageFailure with what it reported instead."""
        return str(self.read().report["lease"]["address"])

    def reaches(self, address: str) -> bool:
        """Say whether anybody answers the guest at an address.

        Raises:
            GuestFailure: it could not be tried.
        """
        return bool(self.ask("reach", target=address)["received"] > 0)

    @contextlib.contextmanager
    def _attached(self, device: ET.Element, sign: str) -> Iterator[None]:
        """Have a device plugged in; ``sign`` is in a definition that has it."""
        xml = ET.tostring(device, encoding="unicode")
        self.domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        try:
            yield
        finally:
            if self.alive:
                # The guest is only asked to let go: libvirt returns before it has.
                self.domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        trouble = self._wait(f"to let go of {sign}", lambda: f"'{sign}'" not in self.domain.XMLDesc(), ANSWER_SECONDS)
        if trouble:
            raise self._failure(trouble)

    def insert(self, volume: str) -> None:
        """Put a volume into the CD-ROM drive, in place of what is in it; an empty name takes that out.

        Raises:
            libvirt.libvirtError: the daemon refused.
        """
        drive = ET.tostring(_cdrom(self.guest.shape.pool, volume), encoding="unicode")
        self.domain.updateDeviceFlags(drive, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def pause(self, seconds: float) -> None:
        """Suspend the guest, and resume it so many seconds later."""
        self.domain.suspend()
        time.sleep(seconds)
        self.domain.resume()

    def reboot(self, seconds: float = BOOT_SECONDS) -> None:
        """Have the guest reboot by the power button, and wait until it is up again.

        Raises:
            libvirt.libvirtError: the daemon refused.
            GuestFailure: the guest did not come up a second time.
        """
        before = self.read().report.count("ready")
        reboots = libvirt.VIR_DOMAIN_LIFECYCLE_REBOOT
        self.domain.setLifecycleAction(
            reboots, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        self.domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        self._wait_for_report(
            "to be up again", lambda report: report.last("ready") if report.count("ready") > before else None, seconds
        )
        self.domain.setLifecycleAction(
            reboots, libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )

    @contextlib.contextmanager
    def saved(self) -> Iterator[None]:
        """Have the guest saved into a file for as long as this lasts, and go on from there afterwards.

        Raises:
            libvirt.libvirtError: the daemon refused.
        """
        file = f"{self._container.mode.image.images}/{self.guest.name}.save"
        self.domain.save(file)
        try:
            yield
            self._connection.restoreFlags(file, None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
            self._go_on(self.guest.report.number)
        finally:
            self._container.run("rm", "--force", file)

    @contextlib.contextmanager
    def reverted(self) -> Iterator[None]:
        """Take a snapshot, and revert the guest to it at the end.

        Raises:
            libvirt.libvirtError: the daemon refused.
        """
        number = self.read().report.number
        snapshot = self.domain.snapshotCreateXML("<domainsnapshot/>")
        try:
            yield
            self.domain.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED)
            self._go_on(number)
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                snapshot.delete()

    def _go_on(self, number: int) -> None:
        """Listen to the domain, which libvirt has put into a new process and paused, and resume it.

        Args:
            number: the number of the next event that the guest will report.
        """
        self._past = self.read().report
        self._past.number = number
        self._heard = self.guest.console
        self._console.close()
        self.domain = self._connection.lookupByName(self.guest.name)
        self._console = _Console(self._connection, self.domain)
        self.domain.resume()

    @property
    def _pid(self) -> str:
        return self._container.run("cat", f"/run/libvirt/qemu/{self.guest.name}.pid").text.strip()

    @property
    def label(self) -> str:
        """Return what the security module says of QEMU; empty without one.

        Raises:
            GuestFailure: it cannot be read, as where QEMU has ended.
        """
        done = self._container.run("cat", f"/proc/{self._pid}/attr/current")
        said = done.stderr.decode(errors="replace").strip()
        if done.status and NO_MODULE not in said:
            what = f"the label of QEMU of guest {self.guest.name} cannot be read: {said}"
            raise GuestFailure(what, self._container, self.guest)
        return done.text.strip("\0\n")

    @property
    def control_groups(self) -> str:
        """Return QEMU's control groups, as proc(5) has them; raises as :meth:`processors`."""
        return self._proc("cat /proc/$1/cgroup")

    def processors(self) -> dict[str, str]:
        """Return by the name of each of QEMU's threads on which of the host's processors the kernel lets it run.

        Raises:
            GuestFailure: it cannot be read, as where QEMU has ended.
        """
        fields = self._proc("cat /proc/$1/task/*/status").splitlines()
        names = [line.partition(":")[2].strip() for line in fields if line.startswith("Name:")]
        allowed = [line.partition(":")[2].strip() for line in fields if line.startswith("Cpus_allowed_list:")]
        return dict(zip(names, allowed, strict=True))

    def memory_kib(self, field: str) -> int:
        """Return a field of QEMU's /proc/PID/status that is an amount of memory, such as ``VmLck``, in KiB.

        Raises:
            GuestFailure: it cannot be read, as where QEMU has ended.
        """
        fields = dict(line.partition(":")[::2] for line in self._proc("cat /proc/$1/status").splitlines())
        return int(fields[field].split()[0])

    def lockable_bytes(self) -> str:
        """Return how many bytes the kernel lets QEMU lock, or ``unlimited``; raises as :meth:`processors`."""
        return self._proc("sed -n 's/^Max locked memory *\\([a-z0-9]*\\) .*/\\1/p' /proc/$1/limits").strip()

    def memory_policies(self) -> frozenset[str]:
        """Return the kernel's policies for QEMU's memory, such as ``default`` and ``bind:0``.

        Raises:
            GuestFailure: they cannot be read, as where QEMU has ended.
        """
        # By QEMU's own user: root needs SYS_PTRACE for it (proc(5)).
        maps = self._proc("cat /proc/$1/numa_maps", user=self._container.mode.image.user)
        return frozenset(line.split()[1] for line in maps.splitlines())

    def _proc(self, script: str, user: str = "") -> str:
        """Run a shell script in the container with QEMU's process number as its argument, and return its output."""
        done = self._container.run("sh", "-c", script, "sh", self._pid, user=user)
        if done.status:
            said = done.stderr.decode(errors="replace").strip()
            what = f"the state of QEMU of guest {self.guest.name} cannot be read: {said}"
            raise GuestFailure(what, self._container, self.guest)
        return done.text

    def kill(self) -> None:
        """End QEMU by SIGKILL, as a crash would."""
        self._container.run("kill", "-KILL", self._pid)
        with for_image():
            wait_for(f"QEMU of guest {self.guest.name} to be gone", self._ended, seconds=ANSWER_SECONDS)

    def wait_for_text(self, pattern: str, on: Place | None = None, seconds: float = BOOT_SECONDS) -> dict[str, str]:
        """Wait until a regular expression matches what the guest shows, and return that as evidence.

        Args:
            pattern: the expression; on the screen lines end without spaces, and the console is as :func:`plain` has it.
            on: where it has to match; on the serial console or on the screen if not given.
            seconds: deadline.

        Returns:
            By the place where it matched: of the console what matched, of the screen all of its text.

        Raises:
            GuestFailure: it did not match within ``seconds``, or the guest has ended.
        """
        found: dict[str, str] = {}

        def matches() -> bool:
            on_console = re.search(pattern, plain(self.read().console)) if on != "screen" else None
            if on_console:
                found["console"] = on_console[0]
            elif on != "console" and re.search(pattern, self._look().text):
                found["screen"] = self.guest.screen.text
                self.guest.screenshot = self._screen.picture if self._screen else b""
            return bool(found)

        trouble = self._wait(f"to show {pattern!r}", lambda: matches() or self._ended(), seconds)
        if not found and not trouble:
            self._console.drain()
            matches()
        if not found:
            self._keep_pictures()
            raise self._failure(trouble or f"guest {self.guest.name} ended without showing {pattern!r}")
        return found

    def _look(self) -> Reading:
        """Look at the screen, unless that was done a moment ago: a look costs the guest more than a read."""
        if self._screen and time.monotonic() >= self._next_look:
            try:
                self.guest.screen = self._screen.look()
            except libvirt.libvirtError as error:
                # A guest may end at any moment; that it has is seen by who waits, and what was there before is kept.
                if not self._screen.picture:
                    self.guest.screen = Reading(missing=str(error))
            self._next_look = time.monotonic() + LOOK_SECONDS
        return self.guest.screen

    def _keep_pictures(self) -> None:
        """Put the screenshots where a reader of the failure can look at them."""
        if not self._screen or not self._screen.picture:
            return
        self.guest.screenshot = self._screen.picture
        pictures = list(self._pictures) or [self._screen.picture]
        ends = [""] if len(pictures) == 1 else [f"-{number}" for number in range(1, len(pictures) + 1)]
        with contextlib.suppress(OSError):
            kept = [
                save(picture, paths.ARTEFACTS / f"{self.guest.name}{end}.png")
                for picture, end in zip(pictures, ends, strict=True)
            ]
            self.guest.picture = ", ".join(f"{path.parent.name}/{path.name}" for path in kept)

    def read(self) -> Guest:
        """Bring what is known of the guest up to date."""
        heard = self._console.text
        self.guest.console = self._heard + heard
        self.guest.report = Report(heard, self.guest.nonce, past=self._past.events, number=self._past.number)
        self.guest.seconds = time.monotonic() - self._started
        return self.guest

    def close(self) -> None:
        """Destroy the domain, if it is still there."""
        self.read()
        self._console.close()
        with contextlib.suppress(libvirt.libvirtError):
            if self._counting is not None:
                self._connection.domainEventDeregisterAny(self._counting)
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()

    def _wait_for_report(self, what: str, look: Callable[[Report], Event | None], seconds: float) -> Event:
        found: list[Event] = []

        def seen() -> bool:
            event = look(self.read().report)
            found.extend([event] if event else [])
            return bool(found) or self._ended()

        trouble = self._wait(what, seen, seconds)
        if not found and not trouble:
            # It has ended: what it said last may still be on its way.
            self._console.drain()
            with contextlib.suppress(_Stopped):
                event = look(self.read().report)
                found.extend([event] if event else [])
        if not found:
            self.unresponsive = True
            self._keep_pictures()
            raise self._failure(trouble or f"guest {self.guest.name} ended instead of {what}")
        return found[0]

    def _ended(self) -> bool:
        """Say whether the domain has ended; notes its leases while it runs."""
        try:
            state, reason = self.domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return True
            raise
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_CRASHED):
            raise _Stopped(
                f"guest {self.guest.name} stopped running (state {state}, reason {reason}){self._disk_errors()}"
            )
        if state != libvirt.VIR_DOMAIN_SHUTDOWN:
            self._powered_off = None
        elif self._powered_off is None:
            self._powered_off = time.monotonic()
        elif time.monotonic() > self._powered_off + LINGER_SECONDS:
            raise _Stopped(
                f"guest {self.guest.name} powered off, and libvirt did not end its domain within {LINGER_SECONDS} s"
            )
        if self._console.full:
            raise _Stopped(f"guest {self.guest.name} floods its console: {CONSOLE_BYTES} bytes and more")
        network = self.guest.shape.network
        if network and not self.guest.leases and '"event":"lease"' in self._console.text:
            self.guest.leases = list(self._connection.networkLookupByName(network).DHCPLeases(self.guest.mac))
        return bool(state == libvirt.VIR_DOMAIN_SHUTOFF)

    def _disk_errors(self) -> str:
        """Say what QEMU met on the guest's disks, in words; empty where it was nothing."""
        words = {libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE: FULL_DISK}
        with contextlib.suppress(libvirt.libvirtError):
            return "".join(
                f"; {disk}: {words.get(code, 'I/O error')}" for disk, code in self.domain.diskErrors().items()
            )
        return ""

    def _wait(self, what: str, ask: Callable[[], bool], seconds: float, interval: float = 0.1) -> str:
        """Wait, and return why that ended badly; empty if it did not."""
        try:
            wait_for(f"guest {self.guest.name} {what}", ask, seconds=seconds, interval=interval, seen=self._shows)
        except DeadlineExpired as error:
            return error.message
        except _Stopped as error:
            return str(error)
        return ""

    def _shows(self) -> str:
        """Say in a line how what the guest shows ends; for errors."""
        places = {"console": plain(self.read().console).strip(), "screen": self.guest.screen.text.strip()}
        ends = {place: text.splitlines()[-1][-LINE_EXCERPT:] for place, text in places.items() if text}
        return ", ".join(f"its {place} ends with {line!r}" for place, line in ends.items())

    def _failure(self, message: str) -> GuestFailure:
        return GuestFailure(message, self._container, self.read())


class _Stopped(Exception):
    """A domain that neither runs nor has ended."""


@contextlib.contextmanager
def started(
    container: Container, shape: GuestSpec, orders: Mapping[str, str], *, outlives: bool = False
) -> Iterator[RunningGuest]:
    """Start a probe guest; it is destroyed at the end, if it has not ended by itself.

    The domain is transient and lives at most as long as the connection: a harness that dies leaves no guest.

    Args:
        container: where.
        shape: what the guest is made of.
        orders: what it is asked, beside its nonce.
        outlives: it may live longer than the connection; libvirt takes no snapshot of one that may not.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
    """
    guest = _new(shape, orders)
    # Started paused, so that the console is open before the first byte, and QEMU can be asked before it ends.
    domain = container.connection.createXML(
        guest.xml, libvirt.VIR_DOMAIN_START_PAUSED | (0 if outlives else libvirt.VIR_DOMAIN_START_AUTODESTROY)
    )
    with _watched(container, domain, guest) as running:
        yield running


class PersistentGuest:
    """A probe guest as a persistent domain, which can be started again, also in a renewed container.

    Args:
        container: where.
        shape: what the guest is made of.
        orders: what it is asked in each boot, beside its nonce, which is the same in all.

    Raises:
        libvirt.libvirtError: the daemon does not take the definition.
    """

    def __init__(self, container: Container, shape: GuestSpec, orders: Mapping[str, str]) -> None:
        self.shape = shape
        self._container = container
        self._guest = _new(shape, orders)
        container.connection.defineXML(self._guest.xml)

    def boot(self, seconds: float = BOOT_SECONDS) -> Guest:
        """Start the domain, wait until it has powered itself off, and return what it said in this boot.

        Raises:
            libvirt.libvirtError: the domain is gone, or does not start.
            GuestFailure: it started and did not get to its end within ``seconds``.
        """
        domain = self._domain()
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY)
        with _watched(self._container, domain, dataclasses.replace(self._guest)) as running:
            return running.wait_for_end(seconds)

    def start(self) -> None:
        """Start the domain, and leave it at its first instruction.

        Raises:
            libvirt.libvirtError: the domain does not start; the daemon's own words.
        """
        self._domain().createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def end(self) -> None:
        """Destroy the domain; raises libvirt.libvirtError where it does not run."""
        self._domain().destroy()

    def undefine(self) -> None:
        """Remove the definition and the file of its UEFI variables, if they are still there."""
        with contextlib.suppress(libvirt.libvirtError):
            self._domain().undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

    def _domain(self) -> "libvirt.virDomain":
        return self._container.connection.lookupByName(self._guest.name)


class AutostartGuest:
    """A probe guest as a persistent domain that starts with its host; what it says is read from a file.

    Args:
        container: where.
        shape: what the guest is made of, with a console log.
        orders: what it is asked in each boot, beside its nonce, which is the same in all.

    Raises:
        libvirt.libvirtError: the daemon does not take the definition.
    """

    def __init__(self, container: Container, shape: GuestSpec, orders: Mapping[str, str]) -> None:
        self._container = container
        self._guest = _new(shape, orders)
        container.connection.defineXML(self._guest.xml).setAutostart(1)

    def start(self) -> None:
        """Start it by hand, this once; raises libvirt.libvirtError where the daemon refuses."""
        self._container.connection.lookupByName(self.name).create()

    def begin_and_end(self) -> None:
        """Start it as far as its first instruction, and end it; raises libvirt.libvirtError where it does not start."""
        domain = self._container.connection.lookupByName(self.name)
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        domain.destroy()

    @property
    def name(self) -> str:
        """Return the domain's name."""
        return self._guest.name

    def forget(self) -> None:
        """Remove what it has said, so that only another boot can have said what is read from now on."""
        self._container.run("rm", "--force", self._guest.shape.console_log)

    def wait_until_up(self, seconds: float = BOOT_SECONDS) -> Report:
        """Wait until the guest has said that it is ready, and return its report.

        Raises:
            Unsupported: there is no use in waiting for it on this host.
            GuestFailure: it did not, or its domain has not been active for as long as a start may take.
        """
        if self._guest.shape.unbootable_reason:
            raise Unsupported(self._guest.shape.unbootable_reason)
        last_active = time.monotonic()

        def ready() -> Report | None:
            nonlocal last_active
            if self._container.connection.lookupByName(self.name).isActive():
                last_active = time.monotonic()
            elif time.monotonic() > last_active + AUTOSTART_SECONDS:
                what = f"guest {self.name} is not running, {AUTOSTART_SECONDS} s after libvirt answered"
                raise GuestFailure(what, self._container, self._guest)
            self._guest.console = self._container.run("cat", self._guest.shape.console_log).text
            self._guest.report = Report(self._guest.console, self._guest.nonce)
            return self._guest.report if "ready" in self._guest.report else None

        try:
            return wait_for(f"guest {self.name} to be up", ready, seconds=seconds, interval=CONSOLE_LOG_SECONDS)
        except DeadlineExpired as error:
            raise GuestFailure(error.message, self._container, self._guest) from error

    def remove(self) -> None:
        """End and undefine the domain, if it is still there."""
        with contextlib.suppress(libvirt.libvirtError):
            domain = self._container.connection.lookupByName(self.name)
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            domain.undefine()


def _new_mac() -> str:
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _new(shape: GuestSpec, orders: Mapping[str, str]) -> Guest:
    """Make up a guest that is not there yet."""
    nonce = secrets.token_hex(8)
    name = f"probe-{nonce[:8]}"
    mac = _new_mac()
    return Guest(name, nonce, shape, domain_xml(name, shape, mac, {"nonce": nonce, "name": name, **orders}), mac)


@contextlib.contextmanager
def _watched(container: Container, domain: "libvirt.virDomain", guest: Guest) -> Iterator[RunningGuest]:
    """Resume a domain that was started paused, and destroy it at the end.

    Raises:
        Unsupported: it started, and there is no use in waiting for it on this host.
    """
    try:
        if guest.shape.unbootable_reason:
            raise Unsupported(guest.shape.unbootable_reason)
        running = RunningGuest(container, container.connection, domain, guest)
    except BaseException:
        domain.destroy()
        raise
    try:
        running.guest.kvm = _qmp(domain, "query-kvm")
        running.guest.open_files = _open_files(container, guest.name)
        domain.resume()
        yield running
    finally:
        running.close()


def boot(container: Container, shape: GuestSpec, orders: Mapping[str, str], seconds: float = BOOT_SECONDS) -> Guest:
    """Start a probe guest, read its report, and wait until it has powered itself off.

    Args:
        container: where.
        shape: what the guest is made of.
        orders: what it is asked, beside its nonce.
        seconds: deadline from its start to its end.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
        GuestFailure: it started and did not get to its end.
    """
    with started(container, shape, orders) as running:
        return running.wait_for_end(seconds)


def _qmp(domain: "libvirt.virDomain", command: str) -> dict[str, Any]:
    """Ask QEMU itself, over its monitor."""
    answer = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0)
    return dict(json.loads(answer)["return"])


def _open_files(container: Container, name: str) -> frozenset[str]:
    """Return what the QEMU process of a domain holds open, as links under /proc/PID/fd.

    Asked by its owner: root without SYS_PTRACE may not look at another user's process (proc(5), ptrace(2)).
    """
    process = container.run("sh", "-c", 'stat -c "%u %n" /proc/"$(cat "$1")"', "sh", f"/run/libvirt/qemu/{name}.pid")
    user, _, folder = process.text.strip().partition(" ")
    done = container.run("sh", "-c", 'for fd in "$1"/fd/*; do readlink "$fd"; done', "sh", folder, user=user)
    return frozenset(done.text.split("\n")) - {""}


def _seen(container: Container, guest: Guest) -> str:
    """Say what the console, QEMU and libvirtd show; for errors."""
    qemu = (
        container.run("tail", "-n", "5", f"{container.mode.image.logs}/{guest.name}.log").text
        if container.running
        else ""
    )
    return (
        f"console ends with:\n{plain(guest.console)[-CONSOLE_EXCERPT:] or '(nothing)'}\n{_on_screen(guest)}"
        f"QEMU's log ends with:\n{qemu or '(nothing)'}\n{container.describe()}"
    )


def plain(console: str) -> str:
    """Return a console's text without what tells a terminal to move, colour or clear (ECMA-48, 5.4 and 8.2)."""
    return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|[ -/]*[0-~])|[\0-\x08\x0b-\x1f\x7f]", "", console)


def _on_screen(guest: Guest) -> str:
    """Say what was on the screen, and where a picture of it is; nothing of a guest without one."""
    if not guest.shape.screen:
        return ""
    picture = f"screenshot: {guest.picture}\n" if guest.picture else ""
    return f"the screen shows:\n{guest.screen.describe()}\n{picture}"
