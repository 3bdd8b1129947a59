"""QEMU's command line for a lab."""

from pathlib import Path

from conformance.lab import emulator
from conformance.lab.definition import Host
from conformance.lab.disk import Disk
from conformance.lab.emulator import Emulator

ALWAYS = "root=/dev/vda rw console=ttyS0 net.ifnames=0 intel_iommu=on iommu=pt panic=-1".split()
"""Kernel arguments of every lab (Linux: kernel-parameters.txt)."""

EMULATED = ["no_timer_check", "mitigations=off"]
"""Kernel arguments under emulation: its timer is too slow for the kernel's check, and it does not speculate."""

BEYOND = "eth1"
"""The lab's link to a network with a DHCP server, on which the lab itself has no address."""

SPARE = ("0000:00:04.0", "0000:00:05.0")
"""PCI addresses of the card and the disk controller for passthrough: QEMU assigns slots in the order of devices."""


def command(host: Host, made: Disk, qemu: Emulator, folder: Path, root: Path, *, port: int) -> list[str]:
    """Return QEMU's command line.

    Two spare devices are for passthrough, each in an IOMMU group of its own: a network card on its own network, and a
    disk controller with a disk (:data:`SPARE`). The card :data:`BEYOND` is on a network with a DHCP server, for guests
    on macvtap. Only the forwarded port of sshd listens, on the loopback address.
    """
    virtual = qemu.accel == "tcg"
    arguments = [*ALWAYS, *(EMULATED if virtual else []), *host.kernel_arguments]
    return [
        *(qemu.program, *(word for path in emulator.FIRMWARE for word in ("-L", path))),
        *("-name", f"lab-{host.name}", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", "q35,kernel-irqchip=split", "-smp", str(host.cpus), "-m", str(host.memory_mib)),
        *(
            ("-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt")
            if virtual
            else ("-accel", "kvm", "-cpu", "host,migratable=off")
        ),
        *("-device", "intel-iommu,intremap=on,caching-mode=on"),
        *("-kernel", str(made.kernel), "-initrd", str(made.initrd), "-append", " ".join(arguments)),
        *("-serial", f"file:{folder / 'console.log'}"),
        *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
        # The disk is removed with the lab, so that unwritten cache does not matter.
        *("-drive", f"if=none,id=root,file={root},format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=root"),
        *("-netdev", f"user,id=outside,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=outside,romfile="),
        *("-netdev", "user,id=beyond,net=10.0.3.0/24,restrict=on"),
        *("-device", "virtio-net-pci,netdev=beyond,romfile="),
        *("-netdev", "user,id=spare,net=10.0.4.0/24,restrict=on"),
        *("-device", "virtio-net-pci,netdev=spare,romfile=,disable-legacy=on,iommu_platform=on"),
        *("-drive", f"if=none,id=spare-disk,file={folder / 'spare.raw'},format=raw"),
        *("-device", "ich9-ahci,id=spare", "-device", "ide-hd,bus=spare.0,drive=spare-disk"),
        *("-device", "virtio-rng-pci"),
    ]
