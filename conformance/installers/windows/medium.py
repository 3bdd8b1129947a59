"""The CD-ROM that answers Windows Setup."""

from pathlib import Path

from conformance.guests.devices import Firmware
from conformance.installers.windows import answers
from conformance.installers.windows.wim import Edition
from conformance.media import formats
from conformance.util import paths

FOLDER = paths.ISOS / "windows"

ANSWER_FILE = "autounattend.xml"
"""The name by which Setup finds it in the root of a removable medium."""


def answer_medium(edition: Edition, firmware: Firmware, key: str, folder: Path) -> Path:
    """Write the answer medium into a folder, and return where it is; raises OSError where that cannot be done."""
    path = folder / "answers.iso"
    path.write_bytes(
        formats.data_iso(
            "ANSWERS",
            {
                ANSWER_FILE: answers.answers(edition, firmware, key),
                answers.REPORT: (FOLDER / answers.REPORT).read_bytes(),
            },
        )
    )
    return path
