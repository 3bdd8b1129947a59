"""Mutants of the daemon's settings: each one removed, which leaves libvirt's default, or given another value."""

import re
from collections.abc import Iterator

from conformance.mutation.mutant import ImageFiles, Mutant

_SETTING = re.compile(r"^(?P<name>[a-z_]+) = (?P<value>.+)$", re.MULTILINE)

OTHER_VALUES = {
    "listen_tls": ("1",),
    "listen_tcp": ("0",),
    "auth_tcp": ('"sasl"',),
    "auth_unix_ro": ('"polkit"',),
    "auth_unix_rw": ('"polkit"',),
    "unix_sock_group": ('"root"',),
    "unix_sock_ro_perms": ('"0777"', '"0700"'),
    "unix_sock_rw_perms": ('"0777"', '"0700"'),
    "log_level": ("1", "4"),
    "log_outputs": ('"4:stderr"', '"3:file:/var/log/libvirt/libvirtd.log"'),
    "firewall_backend": ('"nftables"',),
    "user": ('"root"',),
    "group": ('"root"',),
    "security_driver": ('"apparmor"',),
    "stdio_handler": ('"logd"',),
}
"""By a setting's name: its opposite, and other values that libvirt accepts."""

CONFINEMENT = {
    "seccomp_sandbox": ("0", "QEMU runs without its filter of system calls"),
    "dynamic_ownership": ("0", "libvirt leaves the owners of disk images as they are"),
    "clear_emulator_capabilities": ("0", "QEMU keeps the capabilities that its user has"),
    "max_core": ('"unlimited"', "QEMU may write core dumps of any size"),
    "dump_guest_core": ("1", "core dumps of QEMU hold the guest's memory"),
    "max_files": ("64", "QEMU may open 64 files only"),
    "max_processes": ("8", "QEMU may have eight threads only"),
    "vnc_listen": ('"0.0.0.0"', "VNC of guests listens on every address"),
    "spice_listen": ('"0.0.0.0"', "SPICE of guests listens on every address"),
    "set_process_name": ("0", "QEMU's process is not named after its guest"),
    "allow_disk_format_probing": ("1", "libvirt guesses the format of disk images"),
    "auto_dump_path": ('"/"', "dumps of crashed guests go to the root folder"),
    "nvram": ("[]", "libvirt knows no firmware variables"),
    "lock_manager": ('"lockd"', "guests wait for a lock daemon that does not run"),
    "relaxed_acs_check": ("1", "PCI devices behind any switch may be passed through"),
}
"""Defaults of libvirt that confine QEMU or belong to its process: the value that gives them up, and its effect."""


def settings(files: ImageFiles) -> Iterator[Mutant]:
    """Remove each setting of the image's own, and give it each other value."""
    for file, text in files.items():
        if not file.startswith("config/"):
            continue
        for setting in _SETTING.finditer(text):
            name, value = setting["name"], setting["value"]
            yield Mutant(
                "setting",
                file,
                name,
                "removed",
                f"{file} does not set {name}",
                {file: text[: setting.start()] + text[setting.end() + 1 :]},
            )
            for other in OTHER_VALUES[name]:
                changed = text[: setting.start("value")] + other + text[setting.end("value") :]
                yield Mutant(
                    "setting",
                    file,
                    name,
                    f"{value} to {other}",
                    f"{file} sets {name} to {other}, not {value}",
                    {file: changed},
                )


def confinement(files: ImageFiles) -> Iterator[Mutant]:
    """Give up each of libvirt's defaults that belongs to QEMU's process."""
    file = "config/qemu.conf"
    for name, (value, effect) in CONFINEMENT.items():
        changed = f"{files[file]}\n{name} = {value}\n"
        yield Mutant("process", file, name, f"default to {value}", f"{effect} ({name} = {value})", {file: changed})
