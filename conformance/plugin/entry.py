"""The options and ini keys, and the way to the rest of the plugin; every pytest session of the environment loads this.

It imports nothing but pytest and small modules; see :mod:`conformance.plugin` for the reasons.
"""

import argparse
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.util import paths

PACKAGE = "conformance.suites"
"""The suites, as ``--pyargs`` names them."""


def _fact(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    return key, value


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

    def add(self, group: Any) -> None:
        """Add the option to a group; its short name only if no other plugin has it."""
        attributes: dict[str, Any] = {"dest": self.key, "default": None, "help": self.help, "type": self.parse}
        if self.choices:
            attributes["choices"] = self.choices
        else:
            attributes["metavar"] = self.metavar
        if self.repeatable:
            attributes["action"] = "append"
        try:
            group.addoption(*self.options, **attributes)
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
        Setting("mode", "NAME", "permission mode to test; repeatable (default: all)", repeatable=True, ini=True),
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
        Setting("results", "FOLDER", "append the records to a file in this folder (default: results/)", Path, ini=True),
        Setting("ready-seconds", "N", "deadline in seconds for libvirt's first answer (default: 60)", float, ini=True),
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini keys."""
    for one in SETTINGS.values():
        if one.ini:
            help_ = f"default of {one.option}"
            if one.repeatable:
                parser.addini(one.key, help_, type="args")
            else:
                parser.addini(one.key, help_, type="string")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Generator[None, object, object]:
    """Add the options after all other plugins and the first conftests, whose names take precedence."""
    try:
        return (yield)
    finally:
        group = parser.getgroup("conformance", "libvirt in a container")
        for one in SETTINGS.values():
            one.add(group)


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest of the plugin where the arguments name the suites."""
    _require_settings(config)
    if any(_names_suites(config, argument.partition("::")[0]) for argument in config.args):
        load(config)


def _names_suites(config: pytest.Config, place: str) -> bool:
    """Return whether a place of tests is the suites' folder or package, or in it."""
    if config.option.pyargs and (place == PACKAGE or place.startswith(f"{PACKAGE}.")):
        return True
    return (config.invocation_params.dir / place).resolve().is_relative_to(paths.SUITES.resolve())


def load(config: pytest.Config, folder: Path | None = None) -> None:
    """Load the rest of the plugin.

    A ``conftest.py`` of suites calls it in ``pytest_configure``, and imports :mod:`conformance.plugin.fixtures`' names.

    Args:
        config: of the session.
        folder: holds suites; elsewhere tests are another project's, even with a feature's marker.

    Raises:
        UsageError: an option's value is not accepted.
    """
    config.pluginmanager.import_plugin("conformance.plugin.session")
    if folder:
        from conformance.plugin.state import SESSION

        config.stash[SESSION].folders.add(folder)


def _require_settings(config: pytest.Config) -> None:
    """Raise where pytest looked for its settings beside an option's file, and found none or another project's.

    It does so before it knows a plugin's options: to it, the FILE of ``--iso FILE`` is a place of tests.
    """
    here = config.invocation_params.dir
    found = config.inipath is not None and here.is_relative_to(config.inipath.parent)
    given = any(isinstance(config.getoption(one.key), Path) for one in SETTINGS.values())
    if not given or found or config.getoption("inifilename"):
        return
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and "[tool.pytest" in file.read_text(encoding="utf-8", errors="replace"):
            raise pytest.UsageError(
                f"pytest does not use {file}: it took an option's file for one of tests\n"
                "  what to do: put = before it, as in --iso=FILE or --results=FOLDER, or name the tests: pytest suites"
            )
