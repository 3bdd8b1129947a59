"""The Windows media that the user gave, looked at before any work begins."""

from dataclasses import dataclass
from pathlib import Path

from conformance.errors import MediaError
from conformance.guests.devices import Firmware
from conformance.guests.request import Installation
from conformance.installers.user_iso import require_iso
from conformance.installers.windows import standin, wim
from conformance.installers.windows.medium import answer_medium
from conformance.installers.windows.wim import Edition

OPTIONS = "--windows-iso=FILE and --virtio-win-iso=FILE"

NEEDS = f"needs a Windows medium and its VirtIO drivers: {OPTIONS}"

DISK_BYTES = 64 * 2**30
"""What Windows 11 asks for, as of the memory and of the processors; it writes a third of it."""

MEMORY_MIB = 4096

CPUS = 2


@dataclass(frozen=True)
class Windows:
    """What the user wants to be installed.

    Attributes:
        iso: Windows' own medium.
        drivers: the virtio-win ISO.
        edition: of those on the medium.
        firmware: how it is booted.
        key: a product key; empty for none.
    """

    iso: Path
    drivers: Path
    edition: Edition
    firmware: Firmware
    key: str = ""

    def installation(self, folder: Path) -> Installation:
        """Return it with its answer medium, which is put into a folder; raises OSError where that cannot be done."""
        return Installation(
            self.iso,
            more=(self.drivers, answer_medium(self.edition, self.firmware, self.key, folder)),
            disk_bytes=DISK_BYTES,
            memory_mib=MEMORY_MIB,
            cpus=CPUS,
            devices=frozenset({"tpm"}) if self.firmware == "secure-boot" else frozenset(),
        )


def from_options(
    iso: Path | None, drivers: Path | None, edition: str | None, firmware: Firmware | None, key: str | None
) -> Windows | None:
    """Return the installation that the options name, or none.

    Args:
        iso: of ``--windows-iso``.
        drivers: of ``--virtio-win-iso``.
        edition: of ``--windows-edition``.
        firmware: of ``--windows-firmware``; by default Secure Boot.
        key: of ``--windows-key``.

    Raises:
        MediaError: an option lacks another, or is invalid.
    """
    if iso is None or drivers is None:
        if any(value is not None for value in (iso, drivers, edition, firmware, key)):
            raise MediaError("Windows is installed from two media", f"name both: {OPTIONS}")
        return None
    require_iso(iso, "--windows-iso")
    require_iso(drivers, "--virtio-win-iso")
    if standin.is_standin(iso):
        raise MediaError(
            f"--windows-iso: {iso} is this project's test stand-in: it proves nothing about Windows",
            "name the ISO of a Windows installation medium, as Microsoft offers it",
        )
    chosen = wim.choose(wim.editions(iso), edition)
    if chosen.wants_tpm and firmware not in (None, "secure-boot"):
        raise MediaError(
            f"--windows-firmware {firmware}: {chosen.name} installs with Secure Boot only", "leave the option out"
        )
    return Windows(iso, drivers, chosen, firmware or "secure-boot", key or "")
