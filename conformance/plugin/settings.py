"""The options and ini keys: names, help texts and values. Nothing here imports more than pytest."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def _fact(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    return key, value


def _seconds(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r} is not a positive number of seconds")
    return seconds


@dataclass(frozen=True)
class Setting:
    """One option, and its ini key if it has one.

    Attributes:
        name: the short name of the option, without dashes in front.
        metavar: stands for the value in the help.
        help: for the user, with the default.
        parse: makes the value from a word; raises ValueError or ArgumentTypeError.
        choices: the words that are accepted; any, if empty.
        repeatable: whether several values are accepted.
        ini: whether there is an ini key.
    """

    name: str
    metavar: str | None
    help: str
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    ini: bool = False

    @property
    def option(self) -> str:
        """Return the option's name that always exists."""
        return f"--libvirt-{self.name}"

    @property
    def options(self) -> tuple[str, str]:
        """Return both names, the short one last."""
        return self.option, f"--{self.name}"

    @property
    def key(self) -> str:
        """Return the ini key; it is the attribute of pytest's ``config.option``, too."""
        return f"libvirt_{self.name.replace('-', '_')}"

    def add(self, group: Any, *, short: bool) -> None:
        """Add the option to a group, and its short name on demand, unless another plugin has it."""
        attributes: dict[str, Any] = {"dest": self.key, "default": None, "help": self.help, "type": self.parse}
        if self.choices:
            attributes["choices"] = self.choices
        else:
            attributes["metavar"] = self.metavar
        if self.repeatable:
            attributes["action"] = "append"
        try:
            group.addoption(*(self.options if short else (self.option,)), **attributes)
        except argparse.ArgumentError:
            group.addoption(self.option, **attributes)

    def read(self, config: pytest.Config) -> Any:
        """Return the value: of the command line, else of the ini key, else None.

        Raises:
            UsageError: the ini key's value is not accepted.
        """
        value = config.getoption(self.key)
        if value is not None or not self.ini:
            return value
        written = config.getini(self.key)
        if not written:
            return None
        values = [self._parsed(config, word) for word in (written if self.repeatable else [written])]
        return values if self.repeatable else values[0]

    def _parsed(self, config: pytest.Config, word: str) -> Any:
        """Return an ini key's value; a path is relative to the file of the key."""
        if self.choices and word not in self.choices:
            raise pytest.UsageError(f"{self.key}: {word!r} is none of {', '.join(self.choices)}: correct the ini key")
        try:
            value = self.parse(word)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise pytest.UsageError(f"{self.key}: {error}: correct the ini key") from error
        return (config.inipath or config.rootpath / "ini").parent / value if isinstance(value, Path) else value


FIRMWARE = ("bios", "efi", "secure-boot")

SETTINGS = {
    one.name: one
    for one in (
        Setting("image", "TAG", "image to test (default: built from image/)", ini=True),
        Setting("profile", "NAME", "what to test: smoke, standard or full (default: full)", ini=True),
        Setting("mode", "NAME", "privilege mode to test; repeatable (default: by profile)", repeatable=True, ini=True),
        Setting(
            "without",
            "ID",
            "remove this from the modes: an exposure, a default capability, or the permission of a switch; repeatable",
            repeatable=True,
        ),
        Setting(
            "accel",
            None,
            "run guests under KVM, emulated (tcg), or under KVM wherever it works (auto, the default)",
            choices=("auto", "kvm", "tcg"),
            ini=True,
        ),
        Setting(
            "results", "FOLDER", "append records to a file in this folder (default: artefacts/RUN)", Path, ini=True
        ),
        Setting(
            "ready-seconds", "N", "deadline in seconds for libvirt's first answer (default: 60)", _seconds, ini=True
        ),
        Setting("host-name", "NAME", "name of this host in the records (default: made from its engine)", ini=True),
        Setting(
            "host-fact",
            "KEY=VALUE",
            "further fact about this host for the records; repeatable",
            _fact,
            repeatable=True,
            ini=True,
        ),
        Setting("contract", "FILE", "features, modes and known failures (default: contract.toml)", Path, ini=True),
        Setting(
            "require",
            "NAME",
            "fail if this is unsupported or not run: a feature (in each mode), a mode, or the host's apparmor, selinux,"
            " seccomp, cgroup1 or cgroup2; repeatable",
            repeatable=True,
            ini=True,
        ),
        Setting(
            "install-mirror",
            "URL",
            "HTTP mirror for the Debian installation, as containers reach it (default: apt's own mirror)",
            ini=True,
        ),
        Setting("windows-iso", "FILE", "Windows installation medium; run with -m install_windows", Path),
        Setting("virtio-win-iso", "FILE", "VirtIO drivers for Windows (virtio-win)", Path),
        Setting(
            "windows-edition",
            "NAME",
            "edition on the medium: number, name or identifier (default: Pro, or Standard with a desktop)",
        ),
        Setting(
            "windows-firmware",
            None,
            "firmware for Windows; secure-boot, the default, adds a TPM",
            choices=FIRMWARE,
        ),
        Setting("windows-key", "KEY", "product key, for a medium that does not install without one"),
        Setting("iso", "FILE", "boot a guest from this medium; needs --libvirt-iso-expect", Path),
        Setting("iso-expect", "REGEX", "text that the medium shows on the serial console or on the screen"),
        Setting("iso-firmware", None, "firmware for the medium (default: bios)", choices=FIRMWARE),
        Setting(
            "macvtap-link",
            "NAME",
            "network interface of the engine's host for a macvtap guest; needs a DHCP server behind it",
            ini=True,
        ),
        Setting(
            "pci-device",
            "ADDRESS",
            "PCI device of the engine's host for guests: a VirtIO network card with a DHCP server behind it, or an AHCI"
            " controller, whose disk is overwritten; repeatable",
            repeatable=True,
            ini=True,
        ),
    )
}
