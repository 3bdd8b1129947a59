"""Guests: one boot of the probe as a transient domain, and what was seen of it."""

import contextlib
import json
import secrets
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import libvirt
import libvirt_qemu

from conformance.container import Container
from conformance.errors import ImageFailure
from conformance.media import CMDLINE
from conformance.report import Report
from conformance.wait import DeadlineExpired, wait_for

Firmware = Literal["bios", "efi"]
Accel = Literal["kvm", "tcg"]

BOOT_SECONDS = 150
"""From resuming the domain to its own power-off; an emulated UEFI boot takes 20 s, beside load much longer."""

DRAIN_SECONDS = 5

MEMORY_MIB = 512
"""A UEFI guest with 256 MiB ends in GRUB's "out of memory" on some hosts."""

CONSOLE_EXCERPT = 2500
"""Characters of the console's end that go into an error."""


@dataclass(frozen=True)
class Shape:
    """What a guest is made of.

    Attributes:
        firmware: BIOS or UEFI.
        accel: KVM or emulation.
        iso: volume to boot from as a CD-ROM; without it the kernel is loaded directly.
        kernel: path in the container of the kernel for a direct boot.
        initrd: path in the container of its initramfs.
        disk: volume of the VirtIO disk, or empty for none.
        network: libvirt network of the VirtIO network card, or empty for none.
        macvtap: host link under a macvtap interface, or empty for none.
    """

    firmware: Firmware
    accel: Accel
    pool: str
    iso: str = ""
    kernel: str = ""
    initrd: str = ""
    disk: str = ""
    network: str = ""
    macvtap: str = ""


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
        mac: address of its network card.
        kvm: QEMU's own answer to ``query-kvm``: ``enabled`` and ``present``.
        open_files: what the QEMU process held open while the guest ran.
        seconds: from the API call that starts the domain to its end.
    """

    name: str
    nonce: str
    shape: Shape
    xml: str
    mac: str
    report: Report = field(default_factory=lambda: Report("", ""))
    console: str = ""
    kvm: dict[str, Any] = field(default_factory=dict)
    open_files: frozenset[str] = frozenset()
    leases: list[dict[str, Any]] = field(default_factory=list)
    """What libvirt's network knew of the guest's leases while it ran."""
    seconds: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """Return what a record keeps of this boot."""
        return {
            "domain": self.name,
            "firmware": self.shape.firmware,
            "kvm": self.kvm,
            "report": self.report.as_json(),
            "seconds": round(self.seconds, 2),
            "xml": self.xml,
        }


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


def domain_xml(name: str, shape: Shape, mac: str, orders: Mapping[str, str]) -> str:
    """Write the definition of a probe guest.

    The orders are SMBIOS OEM strings: they reach a guest that boots by BIOS, by UEFI and directly alike, and
    the definition alone is enough to repeat the boot.
    """
    domain = ET.Element("domain", type="kvm" if shape.accel == "kvm" else "qemu")
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "memory", unit="MiB").text = str(MEMORY_MIB)
    ET.SubElement(domain, "vcpu").text = "1"

    firmware = ET.SubElement(domain, "os", {"firmware": "efi"} if shape.firmware == "efi" else {})
    ET.SubElement(firmware, "type", arch="x86_64", machine="q35").text = "hvm"
    if shape.firmware == "efi":
        # libvirt prefers the Secure Boot firmware, which refuses an unsigned loader.
        ET.SubElement(ET.SubElement(firmware, "firmware"), "feature", enabled="no", name="secure-boot")
    if shape.kernel:
        ET.SubElement(firmware, "kernel").text = shape.kernel
        ET.SubElement(firmware, "initrd").text = shape.initrd
        ET.SubElement(firmware, "cmdline").text = CMDLINE
    else:
        ET.SubElement(firmware, "boot", dev="cdrom")
    ET.SubElement(firmware, "smbios", mode="sysinfo")

    strings = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "oemStrings")
    for key, value in orders.items():
        ET.SubElement(strings, "entry").text = f"probe.{key}={value}"

    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if shape.accel == "kvm":
        ET.SubElement(domain, "cpu", mode="host-passthrough", migratable="off")
    # A guest that reboots or crashes has not done what it was asked for.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        ET.SubElement(domain, event).text = "destroy"

    devices = ET.SubElement(domain, "devices")
    if shape.iso:
        cdrom = ET.SubElement(devices, "disk", type="volume", device="cdrom")
        ET.SubElement(cdrom, "driver", name="qemu", type="raw")
        ET.SubElement(cdrom, "source", pool=shape.pool, volume=shape.iso)
        ET.SubElement(cdrom, "target", dev="sda", bus="sata")
        ET.SubElement(cdrom, "readonly")
    if shape.disk:
        disk = ET.SubElement(devices, "disk", type="volume", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="raw", cache="none")
        ET.SubElement(disk, "source", pool=shape.pool, volume=shape.disk)
        ET.SubElement(disk, "target", dev="vda", bus="virtio")
    if shape.network or shape.macvtap:
        kind = "network" if shape.network else "direct"
        interface = ET.SubElement(devices, "interface", type=kind)
        ET.SubElement(interface, "mac", address=mac)
        source = {"network": shape.network} if shape.network else {"dev": shape.macvtap, "mode": "bridge"}
        ET.SubElement(interface, "source", source)
        ET.SubElement(interface, "model", type="virtio")
    ET.SubElement(ET.SubElement(devices, "serial", type="pty"), "target", port="0")
    ET.SubElement(devices, "memballoon", model="none")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


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
                    self._text += received
        if ended:
            # A stream at its end stays readable: without this the event loop would spin.
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
            self._ended.set()

    def drain(self) -> None:
        """Wait for the last bytes: a domain can be gone before they have arrived."""
        self._ended.wait(DRAIN_SECONDS)

    @property
    def text(self) -> str:
        with self._lock:
            return self._text.decode(errors="replace")

    def close(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self._stream.abort()


def boot(container: Container, shape: Shape, orders: Mapping[str, str], seconds: float = BOOT_SECONDS) -> Guest:
    """Start a probe guest, read its report, and wait until it has powered itself off.

    The domain is transient and lives at most as long as the connection: a harness that dies leaves no guest.

    Args:
        container: where.
        shape: what the guest is made of.
        orders: what it is asked, beside its nonce.
        seconds: deadline from its start to its end.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
        GuestFailure: it started and did not get to its end.
    """
    connection = container.connection
    nonce = secrets.token_hex(8)
    name = f"probe-{nonce[:8]}"
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))
    xml = domain_xml(name, shape, mac, {"nonce": nonce, "name": name, **orders})
    guest = Guest(name, nonce, shape, xml, mac)

    started = time.monotonic()
    # Started paused, so that the console is open before the first byte, and QEMU can be asked before it ends.
    domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY)
    console = None
    try:
        console = _Console(connection, domain)
        guest.kvm = _qmp(domain, "query-kvm")
        guest.open_files = _open_files(container, name)
        domain.resume()
        trouble = _watch(connection, domain, console, guest, seconds)
        if not trouble:
            console.drain()
    finally:
        if console is not None:
            guest.console = console.text
            console.close()
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
    guest.seconds = time.monotonic() - started
    guest.report = Report(guest.console, nonce)
    if not guest.report.complete:
        raise GuestFailure(trouble or f"guest {name} ended without finishing its report", container, guest)
    return guest


def _watch(
    connection: "libvirt.virConnect", domain: "libvirt.virDomain", console: _Console, guest: Guest, seconds: float
) -> str:
    """Wait for the domain's end, and note its leases while it runs; returns why it did not end well, if so."""
    trouble = ""

    def ended() -> bool:
        nonlocal trouble
        try:
            state, reason = domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return True
            raise
        if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_CRASHED):
            trouble = f"guest {guest.name} stopped running (state {state}, reason {reason})"
            return True
        if guest.shape.network and not guest.leases and '"event":"lease"' in console.text:
            guest.leases = list(connection.networkLookupByName(guest.shape.network).DHCPLeases(guest.mac))
        return bool(state == libvirt.VIR_DOMAIN_SHUTOFF)

    try:
        wait_for(f"guest {guest.name} to report and power off", ended, seconds=seconds, interval=0.1)
    except DeadlineExpired as error:
        return str(error)
    return trouble


def _qmp(domain: "libvirt.virDomain", command: str) -> dict[str, Any]:
    """Ask QEMU itself, over its monitor."""
    answer = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0)
    return dict(json.loads(answer)["return"])


def _open_files(container: Container, name: str) -> frozenset[str]:
    """Return what the QEMU process of a domain holds open, as links under /proc/PID/fd."""
    done = container.run(
        "sh", "-c", 'for fd in /proc/"$(cat /run/libvirt/qemu/"$1".pid)"/fd/*; do readlink "$fd"; done', "sh", name
    )
    return frozenset(done.text.split("\n")) - {""}


def _seen(container: Container, guest: Guest) -> str:
    """Say what the console, QEMU and libvirtd show; for errors."""
    qemu = container.run("tail", "-n", "5", f"/var/log/libvirt/qemu/{guest.name}.log").text if container.running else ""
    return (
        f"console ends with:\n{guest.console[-CONSOLE_EXCERPT:] or '(nothing)'}\n"
        f"QEMU's log ends with:\n{qemu or '(nothing)'}\n{container.describe()}"
    )
