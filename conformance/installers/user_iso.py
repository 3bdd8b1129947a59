"""A medium of the user's, and the text that it has to show: both are checked before any work begins."""

import re
from dataclasses import dataclass
from pathlib import Path

from conformance.errors import MediaError
from conformance.guests.devices import Firmware

DESCRIPTORS = 16 * 2048
"""Where the volume descriptors of ISO 9660 begin, in bytes; in each a byte for its type comes first (ECMA-119, 8)."""

IDENTIFIER = b"CD001"


@dataclass(frozen=True)
class UserIso:
    """A medium of the user's own.

    Attributes:
        path: the ISO.
        expected: a regular expression that has to match on the serial console or on the screen.
        firmware: how it is booted.
        memory_mib: memory of its guest, in MiB; enough for present installers.
        seconds: deadline; a whole system boots, under emulation too.
    """

    path: Path
    expected: str
    firmware: Firmware
    memory_mib: int = 2048
    seconds: float = 300


def from_options(iso: Path | None, expected: str | None, firmware: Firmware | None) -> UserIso | None:
    """Return the medium that the options name; none where they name none.

    Args:
        iso: of ``--iso``.
        expected: of ``--iso-expect``.
        firmware: of ``--iso-firmware``; by default BIOS.

    Raises:
        MediaError: an option lacks another, or is invalid.
    """
    if iso is None:
        for option, value in (("--iso-expect", expected), ("--iso-firmware", firmware)):
            if value is not None:
                raise MediaError(f"{option} without --iso", "name the medium, too: --iso FILE")
        return None
    if expected is None:
        raise MediaError("--iso without --iso-expect", "add the text that the medium shows: --iso-expect REGEX")
    _require_expression(expected)
    require_iso(iso, "--iso")
    return UserIso(iso, expected, firmware or "bios")


def _require_expression(expected: str) -> None:
    try:
        expression = re.compile(expected)
    except re.error as error:
        raise MediaError(
            f"--iso-expect: {expected!r} is no regular expression: {error}",
            r"write it in Python's syntax, and a backslash before each literal special character, as in 'login\.'",
        ) from error
    if expression.search(""):
        raise MediaError(
            f"--iso-expect: {expected!r} matches an empty text, so any screen would do",
            "name some text that only a medium that boots shows",
        )


def require_iso(iso: Path, option: str) -> None:
    """Raise unless an option's file is an ISO.

    Raises:
        MediaError: it is none, or cannot be read.
    """
    remedy = "name a file that is an ISO 9660 image"
    try:
        if iso.exists() and not iso.is_file():
            raise MediaError(f"{option}: {iso} is {'a folder' if iso.is_dir() else 'no file'}", remedy)
        with iso.open("rb") as file:
            file.seek(DESCRIPTORS)
            descriptor = file.read(1 + len(IDENTIFIER))
    except OSError as error:
        raise MediaError(f"{option}: {iso.absolute()} cannot be read: {error.strerror}", remedy) from error
    if not iso.stat().st_size:
        raise MediaError(f"{option}: {iso} is empty", "fetch it again")
    if descriptor[1:] != IDENTIFIER:
        raise MediaError(
            f"{option}: {iso} is no ISO: it has no volume descriptor at sector 16",
            "name a file that is an ISO 9660 image; one that is compressed has to be unpacked before",
        )
