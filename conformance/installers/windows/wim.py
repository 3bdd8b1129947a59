"""What a Windows medium holds: the editions in its image file, and which of them is installed.

Only the image file's header and its description are read, where they lie in the ISO; nothing is unpacked.

Source: Microsoft, "Windows Imaging File Format (WIM)", for the header; the description is XML in UTF-16.
"""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pycdlib
import pycdlib.pycdlibexception

from conformance.errors import MediaError

FILES = ("install.wim", "install.esd", "install.swm")
"""Under /sources, of whichever kind: plain, compressed as a whole, or the first part of several."""

MAGIC = b"MSWIM\0\0\0"

HEADER = struct.Struct("<8s64x7sBQQ")
"""The tag, and of the description's resource its size, its flags, where it begins, and its size when unpacked."""

LARGEST = 64 * 2**20
"""Bytes of a description; real ones have some 10 KiB."""

ARCHITECTURES = {"0": "x86", "5": "arm", "6": "ia64", "9": "amd64", "12": "arm64"}
"""By the numbers of PROCESSOR_ARCHITECTURE_* in winnt.h."""

SERVER, CLIENT = "Server", "Client"

PREFERRED = {CLIENT: ("Professional", "EnterpriseEval", "Enterprise"), SERVER: ("ServerStandardEval", "ServerStandard")}
"""Editions by the kind of system, the first that is there; of a server the one with a desktop, as Windows has it."""

CLIENTS = ((22000, "w11"), (10240, "w10"))
SERVERS = ((26100, "2k25"), (20348, "2k22"), (17763, "2k19"))
"""From which build on a system takes its drivers from which folder of the virtio-win ISO."""


@dataclass(frozen=True)
class Edition:
    """One image of the file, as its description has it.

    Attributes:
        index: its number, from 1.
        name: its name in setup.
        edition: Microsoft's identifier of it, such as ``Professional``.
        kind: ``Client``, ``Server``, or ``Server Core``.
        architecture: as answer files name it.
        build: of Windows.
        language: its default one.
    """

    index: int
    name: str
    edition: str
    kind: str
    architecture: str
    build: int
    language: str

    @property
    def drivers(self) -> str:
        """Return the folder that the virtio-win ISO has for it.

        Raises:
            MediaError: none is known.
        """
        folders = CLIENTS if self.kind == CLIENT else SERVERS
        for build, folder in folders:
            if self.build >= build:
                return folder
        raise MediaError(
            f"--windows-iso: {self.name} is build {self.build}: too old", "take Windows 10 or Server 2019, or newer"
        )

    @property
    def wants_tpm(self) -> bool:
        """Say whether it does not install without a TPM and Secure Boot; which do no harm to the others."""
        return self.drivers == "w11"

    def __str__(self) -> str:
        return f"{self.index}: {self.name} ({self.edition}, {self.kind}, {self.architecture}, build {self.build})"


def editions(iso: Path) -> list[Edition]:
    """Return the editions on a medium.

    Raises:
        MediaError: it is no Windows medium, or cannot be read.
    """
    remedy = "name the ISO of a Windows installation medium, as Microsoft offers it"
    image = pycdlib.PyCdlib()
    try:
        image.open(str(iso))
    except (OSError, pycdlib.pycdlibexception.PyCdlibException, struct.error) as error:
        raise MediaError(f"--windows-iso: {iso} cannot be read as an ISO: {error}", remedy) from error
    try:
        for name in FILES:
            # Larger than 4 GiB, it is in the medium's UDF part alone.
            for place in ({"udf_path": f"/sources/{name}"}, {"iso_path": f"/SOURCES/{name.upper()};1"}):
                try:
                    with image.open_file_from_iso(**place) as file:
                        return parse(file)
                except pycdlib.pycdlibexception.PyCdlibException:
                    continue
    finally:
        image.close()
    raise MediaError(f"--windows-iso: {iso} has no sources/{FILES[0]}, nor one of {', '.join(FILES[1:])}", remedy)


def parse(file: BinaryIO) -> list[Edition]:
    """Return the editions in an image file.

    Raises:
        MediaError: it is none, or is damaged.
    """
    try:
        magic, size, _flags, offset, _unpacked = HEADER.unpack(file.read(HEADER.size))
        length = int.from_bytes(size, "little")
        if magic != MAGIC or length > LARGEST:
            raise ValueError("no header of one")
        file.seek(offset)
        root = ET.fromstring(file.read(length).decode("utf-16"))  # noqa: S314  - of the user's own medium
        return [_edition(one) for one in root.iterfind("IMAGE")]
    except (struct.error, ValueError, ET.ParseError) as error:
        raise MediaError(
            f"--windows-iso: its image file is not understood: {error}", "fetch the medium again; this one is damaged"
        ) from error


def _edition(image: ET.Element) -> Edition:
    windows = "WINDOWS/"
    architecture = image.findtext(f"{windows}ARCH", "")
    return Edition(
        index=int(image.get("INDEX", "")),
        name=image.findtext("DISPLAYNAME", "") or image.findtext("NAME", ""),
        edition=image.findtext(f"{windows}EDITIONID", ""),
        kind=image.findtext(f"{windows}INSTALLATIONTYPE", ""),
        architecture=ARCHITECTURES.get(architecture, architecture),
        build=int(image.findtext(f"{windows}VERSION/BUILD", "0")),
        language=image.findtext(f"{windows}LANGUAGES/DEFAULT", "en-US"),
    )


def choose(known: Sequence[Edition], wanted: str | None) -> Edition:
    """Return the edition to install.

    Args:
        known: the medium's editions.
        wanted: an edition's number, name or identifier; by default the preferred one.

    Raises:
        MediaError: there is none such, or several and none is preferred; lists the editions. Or it is for another
            processor.
    """
    choices = "; ".join(map(str, known)) or "nothing"
    if wanted is not None:
        found = [one for one in known if wanted in (str(one.index), one.name, one.edition)]
    elif len(known) == 1:
        found = list(known)
    else:
        ranked = [
            one
            for kind, names in PREFERRED.items()
            for name in names
            for one in known
            if (one.kind, one.edition) == (kind, name)
        ]
        found = ranked[:1]
    if len(found) != 1:
        what = f"{len(found)} editions are called {wanted!r}" if wanted else "none of its editions is preferred"
        raise MediaError(f"--windows-iso: {what}; it has {choices}", "name one: --windows-edition NUMBER")
    if found[0].architecture != "amd64":
        raise MediaError(
            f"--windows-iso: {found[0].name} is for {found[0].architecture}; guests here are amd64",
            "take a medium for 64-bit PCs (x64)",
        )
    return found[0]
