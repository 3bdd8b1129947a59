"""The answer file: the answers to Windows Setup's questions, and the commands of the first logon.

Source: Microsoft, "Unattended Windows Setup Reference", for each component, its passes and its settings.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from conformance.guests.devices import Firmware
from conformance.installers.windows.wim import Edition

UNATTEND = "urn:schemas-microsoft-com:unattend"
WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"

USER = "conformance"
PASSWORD = "Conformance-1"  # noqa: S105  - of a guest that lives for an hour, behind a NAT
"""It fulfils Windows Server's rules for passwords."""

LETTERS = "DEFGHIJ"
"""What drives can be called: which CD-ROM gets which letter is Windows' own choice."""

DRIVERS = ("viostor", "NetKVM")
"""Folders of the virtio-win ISO: the VirtIO disk, and the VirtIO network card."""

REPORT = "report.ps1"

Setting: TypeAlias = "tuple[str, str | Sequence[Setting]]"
"""A setting's name, and its value or its own settings."""

Components: TypeAlias = "list[tuple[str, list[Setting]]]"
"""Of a pass, by their names."""

LISTED = frozenset(
    "Disk CreatePartition ModifyPartition PathAndCredentials MetaData LocalAccount SynchronousCommand".split()
)
"""Elements of lists, which an answer file adds to present ones."""


def answers(edition: Edition, firmware: Firmware, key: str = "") -> bytes:
    """Return autounattend.xml.

    Args:
        edition: the edition to install.
        firmware: how the guest boots, by which its disk is partitioned.
        key: a product key, for media that do not install without one.
    """
    ET.register_namespace("", UNATTEND)
    ET.register_namespace("wcm", WCM)
    root = ET.Element(f"{{{UNATTEND}}}unattend")
    passes: dict[str, Components] = {
        "windowsPE": _setup(edition, firmware, key),
        "specialize": [("Microsoft-Windows-Shell-Setup", [("ComputerName", "installed")])],
        "oobeSystem": _first_start(edition),
    }
    for name, components in passes.items():
        one = ET.SubElement(root, f"{{{UNATTEND}}}settings", {"pass": name})
        for component, settings in components:
            _fill(
                ET.SubElement(
                    one,
                    f"{{{UNATTEND}}}component",
                    name=component,
                    processorArchitecture=edition.architecture,
                    publicKeyToken="31bf3856ad364e35",
                    language="neutral",
                    versionScope="nonSxS",
                ),
                settings,
            )
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _fill(parent: ET.Element, settings: Iterable[Setting]) -> None:
    for number, (name, value) in enumerate(settings, start=1):
        made = ET.SubElement(parent, f"{{{UNATTEND}}}{name}")
        if name in LISTED:
            made.set(f"{{{WCM}}}action", "add")
        if name == "PathAndCredentials":
            made.set(f"{{{WCM}}}keyValue", str(number))
        if isinstance(value, str):
            made.text = value
        else:
            _fill(made, value)


def _language(edition: Edition) -> list[Setting]:
    return [(name, edition.language) for name in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale")]


def _setup(edition: Edition, firmware: Firmware, key: str) -> Components:
    """Return the answers for setup itself, in Windows PE."""
    paths: list[Setting] = [
        ("PathAndCredentials", [("Path", f"{letter}:\\{driver}\\{edition.drivers}\\{edition.architecture}")])
        for letter in LETTERS
        for driver in DRIVERS
    ]
    partitions, system = _partitions(firmware)
    product: list[Setting] = [("Key", key)] if key else []
    return [
        (
            "Microsoft-Windows-International-Core-WinPE",
            [("SetupUILanguage", [("UILanguage", edition.language)]), *_language(edition)],
        ),
        ("Microsoft-Windows-PnpCustomizationsWinPE", [("DriverPaths", paths)]),
        (
            "Microsoft-Windows-Setup",
            [
                (
                    "DiskConfiguration",
                    [("Disk", [*partitions, ("DiskID", "0"), ("WillWipeDisk", "true")]), ("WillShowUI", "OnError")],
                ),
                (
                    "ImageInstall",
                    [
                        (
                            "OSImage",
                            [
                                (
                                    "InstallFrom",
                                    [("MetaData", [("Key", "/IMAGE/INDEX"), ("Value", str(edition.index))])],
                                ),
                                ("InstallTo", [("DiskID", "0"), ("PartitionID", system)]),
                                ("WillShowUI", "OnError"),
                            ],
                        )
                    ],
                ),
                (
                    "UserData",
                    [("AcceptEula", "true"), ("ProductKey", [*product, ("WillShowUI", "OnError")])],
                ),
            ],
        ),
    ]


def _partitions(firmware: Firmware) -> tuple[list[Setting], str]:
    """Return how the disk is divided, and the number of the partition for Windows.

    Source: Microsoft, "UEFI/GPT-based hard drive partitions" and "BIOS/MBR-based hard drive partitions"; sizes in MB.
    """
    if firmware == "bios":
        made = [("Primary", "500"), ("Primary", "")]
        formatted: list[list[Setting]] = [
            [("Active", "true"), ("Format", "NTFS"), ("Label", "System"), ("Order", "1"), ("PartitionID", "1")],
            [("Format", "NTFS"), ("Label", "Windows"), ("Letter", "C"), ("Order", "2"), ("PartitionID", "2")],
        ]
    else:
        made = [("EFI", "300"), ("MSR", "16"), ("Primary", "")]
        formatted = [
            [("Format", "FAT32"), ("Label", "System"), ("Order", "1"), ("PartitionID", "1")],
            [("Format", "NTFS"), ("Label", "Windows"), ("Letter", "C"), ("Order", "2"), ("PartitionID", "3")],
        ]
    created: list[Setting] = [
        ("CreatePartition", [("Order", str(number)), ("Size", size) if size else ("Extend", "true"), ("Type", kind)])
        for number, (kind, size) in enumerate(made, start=1)
    ]
    modified: list[Setting] = [("ModifyPartition", one) for one in formatted]
    return [("CreatePartitions", created), ("ModifyPartitions", modified)], str(len(made))


def _first_start(edition: Edition) -> Components:
    """Return the answers for the installed system, and the report that it makes at the first logon."""
    password: list[Setting] = [("Value", PASSWORD), ("PlainText", "true")]
    report = f"powershell -NoProfile -ExecutionPolicy Bypass -File %d:\\{REPORT}"
    return [
        ("Microsoft-Windows-International-Core", _language(edition)),
        (
            "Microsoft-Windows-Shell-Setup",
            [
                ("AutoLogon", [("Enabled", "true"), ("LogonCount", "1"), ("Password", password), ("Username", USER)]),
                (
                    "FirstLogonCommands",
                    [
                        (
                            "SynchronousCommand",
                            [
                                (
                                    "CommandLine",
                                    f"cmd /c for %d in ({' '.join(LETTERS)}) do if exist %d:\\{REPORT} {report}",
                                ),
                                ("Order", "1"),
                            ],
                        )
                    ],
                ),
                (
                    "OOBE",
                    [
                        ("HideEULAPage", "true"),
                        ("HideOnlineAccountScreens", "true"),
                        ("HideWirelessSetupInOOBE", "true"),
                        ("ProtectYourPC", "3"),
                    ],
                ),
                (
                    "UserAccounts",
                    [
                        (
                            "LocalAccounts",
                            [("LocalAccount", [("Group", "Administrators"), ("Name", USER), ("Password", password)])],
                        )
                    ],
                ),
                ("TimeZone", "UTC"),
            ],
        ),
    ]
