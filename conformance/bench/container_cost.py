"""Cost of the image: the start of containers and domains, and a probe guest beside the same one under bare QEMU."""

import io
import secrets
import tarfile
from collections import defaultdict
from collections.abc import Callable

import libvirt

from conformance.bench.result import Measurement
from conformance.bench.stopwatch import timed
from conformance.bench.targets import MODE
from conformance.container.container import Container
from conformance.errors import HarnessError
from conformance.guests import running
from conformance.guests.domain_xml import domain_xml
from conformance.guests.factory import Guests
from conformance.guests.peer_network import PeerNetwork
from conformance.guests.probe_client import BOOT_SECONDS
from conformance.guests.spec import MEMORY_MIB, Accel, GuestSpec
from conformance.guests.storage import POOL
from conformance.media.probe import CMDLINE, Probe
from conformance.media.probe_report import Report
from conformance.model import mode
from conformance.run.context import Run

ORDERS = {"ask": "disk"}
"""Orders of the measured guest, beside its nonce: enough to need a device and libvirt's storage."""


def containers(run: Run, progress: Callable[[str], None], repeat: int) -> tuple[list[Measurement], Accel]:
    """Measure starts of containers, and of domains in the last one."""
    seconds: list[float] = []
    container = run.container(mode.from_contract(run.contract, MODE), network="default")
    try:
        for number in range(repeat):
            progress(f"container start {number + 1} of {repeat}")
            container.stop()
            container.remove()
            with timed(seconds):
                container.start()
                container.wait_until_ready()
        accel = run.accel_in(container)
        shape = _shape(run, container, accel, progress)
        return [
            Measurement(id="container-start", values=seconds),
            _domain_start(container, shape, progress, repeat),
            *_probe(container, shape, progress, repeat),
        ], accel
    finally:
        container.stop()
        container.remove()


def _shape(run: Run, container: Container, accel: Accel, progress: Callable[[str], None]) -> GuestSpec:
    """Copy kernel and initramfs into a container, and return the spec of the measured guest."""
    container.client.api.put_archive(container.id, "/var/lib/libvirt", _archive(run.probe))
    guests = Guests(container, run.probe, PeerNetwork(run.engine.client, run.probe, run.id), accel, progress)
    kernel = "/var/lib/libvirt/bench-vmlinuz"
    return GuestSpec(
        "bios", accel, POOL, kernel=kernel, initrd="/var/lib/libvirt/bench-initrd", disk=guests.pool.new_disk()
    )


def _archive(probe: Probe) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(probe.kernel, "bench-vmlinuz")
        archive.add(probe.initrd, "bench-initrd")
    return buffer.getvalue()


def _domain_start(container: Container, shape: GuestSpec, progress: Callable[[str], None], repeat: int) -> Measurement:
    seconds: list[float] = []
    for number in range(repeat):
        progress(f"domain start {number + 1} of {repeat}")
        xml = domain_xml(f"bench-{number}", shape, "", ORDERS)
        with timed(seconds):
            domain = container.connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
            state, _ = domain.state()
        domain.destroy()
        if state != libvirt.VIR_DOMAIN_RUNNING:
            raise HarnessError(f"a domain that was started is in state {state}, not running")
    return Measurement(id="domain-start", values=seconds)


def _probe(container: Container, shape: GuestSpec, progress: Callable[[str], None], repeat: int) -> list[Measurement]:
    """Boot the same guest with libvirt and with bare QEMU, in turns, so that other load affects both."""
    seconds: dict[str, list[float]] = defaultdict(list)
    inside: dict[str, list[float]] = defaultdict(list)
    for number in range(repeat):
        progress(f"probe {number + 1} of {repeat}: through libvirt")
        with timed(seconds["libvirt"]):
            report = running.boot(container, shape, ORDERS).report
        inside["libvirt"].append(_uptime(report))
        progress(f"probe {number + 1} of {repeat}: bare QEMU")
        nonce = secrets.token_hex(8)
        with timed(seconds["bare"]):
            done = container.run(*bare_qemu(shape, {"nonce": nonce, **ORDERS}), seconds=BOOT_SECONDS)
        report = Report(done.text, nonce)
        if not report.complete:
            raise HarnessError(f"the probe under bare QEMU did not finish its report:\n{done.text}\n{done.stderr!r}")
        inside["bare"].append(_uptime(report))
    ratios = [round(one / other, 3) for one, other in zip(seconds["libvirt"], seconds["bare"], strict=True)]
    return [
        Measurement(id="probe-ratio", values=ratios),
        *(Measurement(id=f"probe-{how}", values=seconds[how], detail={"uptime": inside[how]}) for how in seconds),
    ]


def _uptime(report: Report) -> float:
    """Return the uptime of the guest's kernel at the end of its report, in seconds."""
    return float(report["end"]["uptime"])


def bare_qemu(shape: GuestSpec, orders: dict[str, str]) -> list[str]:
    """Return the command line that starts the same guest without libvirt.

    CPU model, memory, machine, accelerator, disk cache and orders are those of :func:`domain_xml`; where
    that leaves the CPU to libvirt, libvirt takes QEMU's own default, as this does.
    """
    oem_strings = ",".join(f"value=probe.{key}={value}" for key, value in orders.items())
    drive = f"file=/var/lib/libvirt/images/{POOL}/{shape.disk},if=none,id=disk,format=raw,cache=none,discard=unmap"
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", shape.accel),
        *(("-cpu", "host,migratable=off") if shape.accel == "kvm" else ()),
        *("-m", str(MEMORY_MIB), "-smp", "1", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", shape.kernel, "-initrd", shape.initrd, "-append", CMDLINE),
        *("-smbios", f"type=11,{oem_strings}", "-drive", drive, "-device", "virtio-blk-pci,drive=disk"),
    ]
