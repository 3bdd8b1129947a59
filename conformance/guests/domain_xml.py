"""The domain definition of a guest, written from its specification."""

import re
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

from conformance.guests.devices import DEVICES
from conformance.guests.spec import DiskFormat, GuestSpec, Tuning
from conformance.media.probe import CMDLINE


def domain_xml(name: str, spec: GuestSpec, mac: str, orders: Mapping[str, str]) -> str:
    """Write the definition of a probe guest.

    The orders are SMBIOS OEM strings: they reach a guest that boots by BIOS, by UEFI and directly alike, and
    the definition alone is enough to repeat the boot.
    """
    domain = ET.Element("domain", type="kvm" if spec.accel == "kvm" else "qemu")
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "memory", unit="MiB").text = str(spec.memory_mib)
    ET.SubElement(domain, "vcpu", current=str(spec.cpus)).text = str(spec.cpus + spec.adjustable)
    domain.extend(_tuning(spec.tuning, spec.cpus))
    domain.append(_firmware(spec))

    strings = ET.SubElement(ET.SubElement(domain, "sysinfo", type="smbios"), "oemStrings")
    for key, value in orders.items():
        ET.SubElement(strings, "entry").text = f"probe.{key}={value}"

    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if spec.firmware == "secure-boot":
        # Only the firmware, in system management mode, may change its variables.
        ET.SubElement(features, "smm", state="on")
    if spec.cpu_model:
        # Unchecked: emulation lacks some features of each model, and a model of another vendor's processor is fine.
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        ET.SubElement(cpu, "model", fallback="forbid").text = spec.cpu_model
    elif spec.accel == "kvm":
        ET.SubElement(domain, "cpu", mode="host-passthrough", migratable="off")
    # A guest that crashes or reboots has failed; an installer may reboot.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        ET.SubElement(domain, event).text = "restart" if spec.installs and event == "on_reboot" else "destroy"

    ET.SubElement(domain, "devices").extend(_devices(spec, mac))
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def _firmware(spec: GuestSpec) -> ET.Element:
    """Describe the firmware and its boot devices."""
    uefi = spec.firmware != "bios"
    firmware = ET.Element("os", {"firmware": "efi"} if uefi else {})
    ET.SubElement(firmware, "type", arch="x86_64", machine="q35").text = "hvm"
    if uefi:
        # By default libvirt prefers the Secure Boot firmware, which refuses an unsigned loader.
        chosen = ET.SubElement(firmware, "firmware")
        for feature in ("secure-boot", "enrolled-keys"):
            ET.SubElement(chosen, "feature", enabled="yes" if spec.firmware == "secure-boot" else "no", name=feature)
    if spec.firmware_on_serial and not uefi:
        ET.SubElement(firmware, "bios", useserial="yes")
    if spec.nvram:
        ET.SubElement(firmware, "nvram").text = spec.nvram
    if spec.kernel:
        ET.SubElement(firmware, "kernel").text = spec.kernel
        ET.SubElement(firmware, "initrd").text = spec.initrd
        ET.SubElement(firmware, "cmdline").text = CMDLINE
    else:
        for device in ("hd", "cdrom") if spec.installs else ("cdrom",):
            ET.SubElement(firmware, "boot", dev=device)
    ET.SubElement(firmware, "smbios", mode="sysinfo")
    return firmware


def _devices(spec: GuestSpec, mac: str) -> Iterator[ET.Element]:
    if spec.iso or "drive" in spec.devices:
        yield cdrom(spec.pool, spec.iso)
    for number, volume in enumerate(spec.more_isos, start=1):
        yield cdrom(spec.pool, volume, number)
    if spec.disk:
        yield disk(spec.pool, spec.disk, "vda", spec.disk_format)
    if spec.network:
        yield network_card("network", mac, network=spec.network)
    elif spec.macvtap:
        yield network_card("direct", mac, dev=spec.macvtap, mode=spec.macvtap_mode)
    if spec.hostdev:
        yield _hostdev(spec.hostdev, managed=spec.managed)
    serial = ET.Element("serial", type="pty")
    if spec.console_log:
        ET.SubElement(serial, "log", file=spec.console_log, append="off")
    ET.SubElement(serial, "target", port="0")
    yield serial
    for name in sorted(spec.devices):
        if DEVICES[name].xml:
            yield ET.fromstring(DEVICES[name].xml)  # noqa: S314  - the project's own
    if spec.screen:
        # A card without a display: nothing listens, and screenshots come over the API.
        video = ET.Element("video")
        ET.SubElement(video, "model", type="vga")
        yield video
    yield ET.Element("memballoon", model="virtio" if spec.adjustable else "none")


def _tuning(tuning: Tuning, cpus: int) -> Iterator[ET.Element]:
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


def cdrom(pool: str, volume: str, number: int = 0) -> ET.Element:
    """Describe a CD-ROM drive, by its number from 0; without a volume it is empty."""
    drive = ET.Element("disk", type="volume" if volume else "file", device="cdrom")
    ET.SubElement(drive, "driver", name="qemu", type="raw")
    if volume:
        ET.SubElement(drive, "source", pool=pool, volume=volume)
    ET.SubElement(drive, "target", dev=f"sd{'abcd'[number]}", bus="sata")
    ET.SubElement(drive, "readonly")
    return drive


def network_card(kind: str, mac: str, **source: str) -> ET.Element:
    """Describe a VirtIO network card.

    Args:
        kind: of interface, such as ``network`` or ``direct``.
        mac: its address.
        source: attributes of the interface's source.
    """
    card = ET.Element("interface", type=kind)
    ET.SubElement(card, "mac", address=mac)
    ET.SubElement(card, "source", source)
    ET.SubElement(card, "model", type="virtio")
    return card


def disk(pool: str, volume: str, name: str, disk_format: DiskFormat = "raw") -> ET.Element:
    """Describe a VirtIO disk that the guest calls ``name``."""
    described = ET.Element("disk", type="volume", device="disk")
    ET.SubElement(described, "driver", name="qemu", type=disk_format, cache="none", discard="unmap")
    ET.SubElement(described, "source", pool=pool, volume=volume)
    ET.SubElement(described, "target", dev=name, bus="virtio")
    return described


def new_mac() -> str:
    """Return a random address out of QEMU's range."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _hostdev(address: str, *, managed: bool) -> ET.Element:
    device = ET.Element("hostdev", mode="subsystem", type="pci", managed="yes" if managed else "no")
    parts = zip(("domain", "bus", "slot", "function"), re.split("[:.]", address), strict=True)
    ET.SubElement(ET.SubElement(device, "source"), "address", {name: f"0x{part}" for name, part in parts})
    return device
