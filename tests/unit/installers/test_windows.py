"""Windows: what a medium holds, and the answers to its setup. No test here is evidence that a Windows installs."""

import io
import re
import struct
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from conformance.errors import MediaError
from conformance.guests.devices import Firmware
from conformance.installers.windows import answers, medium, standin, user_iso, wim
from conformance.installers.windows.wim import Edition
from conformance.util import paths

PRO = Edition(6, "Windows 11 Pro", "Professional", "Client", "amd64", 26100, "en-US")
HOME = Edition(1, "Windows 11 Home", "Core", "Client", "amd64", 26100, "en-US")
TEN = Edition(1, "Windows 10 Pro", "Professional", "Client", "amd64", 19041, "de-DE")
CORE = Edition(
    1, "Windows Server 2022 Standard Evaluation", "ServerStandardEval", "Server Core", "amd64", 20348, "en-US"
)
DESKTOP = Edition(2, "the same (Desktop Experience)", "ServerStandardEval", "Server", "amd64", 20348, "en-US")
ARM = Edition(1, "Windows 11 Pro", "Professional", "Client", "arm64", 26100, "en-US")


def wim_file(*editions: Edition) -> bytes:
    """An image file without images, as Microsoft describes the format: 208 bytes of header, the description last."""
    numbers = {name: number for number, name in wim.ARCHITECTURES.items()}
    description = "".join(
        f'<IMAGE INDEX="{one.index}"><NAME>{one.name}</NAME><WINDOWS><ARCH>{numbers[one.architecture]}</ARCH>'
        f"<EDITIONID>{one.edition}</EDITIONID><INSTALLATIONTYPE>{one.kind}</INSTALLATIONTYPE>"
        f"<LANGUAGES><LANGUAGE>{one.language}</LANGUAGE><DEFAULT>{one.language}</DEFAULT></LANGUAGES>"
        f"<VERSION><MAJOR>10</MAJOR><MINOR>0</MINOR><BUILD>{one.build}</BUILD></VERSION></WINDOWS></IMAGE>"
        for one in editions
    )
    xml = f"<WIM><TOTALBYTES>1</TOTALBYTES>{description}</WIM>".encode("utf-16")
    images = b"\0" * 1000
    header = struct.pack("<8sIIII16sHHI24s", wim.MAGIC, 208, 0x10D00, 0, 0, bytes(16), 1, 1, len(editions), bytes(24))
    header += struct.pack("<QQQ", len(xml) | 2 << 56, 208 + len(images), len(xml))
    return header.ljust(208, b"\0") + images + xml


def test_the_editions_of_an_image_file_are_read() -> None:
    assert wim.parse(io.BytesIO(wim_file(HOME, PRO))) == [HOME, PRO]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"MZ" * 200,
        wim_file(PRO)[:300],
        wim_file(PRO)[:-20],
        wim_file(PRO).replace("19041".encode("utf-16-le"), b"").replace("26100".encode("utf-16-le"), b"x\0"),
        struct.pack("<8s64xQQQ", wim.MAGIC, 2**40, 208, 2**40),
    ],
    ids=["empty", "program", "cut short", "cut a little", "no number", "no end"],
)
def test_what_is_no_image_file_is_refused(content: bytes) -> None:
    with pytest.raises(MediaError, match="image file is not understood"):
        wim.parse(io.BytesIO(content))


@pytest.mark.parametrize(
    ("known", "wanted", "chosen"),
    [
        ([HOME], None, HOME),
        ([HOME, PRO], None, PRO),
        ([CORE, DESKTOP], None, DESKTOP),
        ([HOME, PRO], "1", HOME),
        ([HOME, PRO], "Windows 11 Home", HOME),
        ([HOME, PRO], "Core", HOME),
    ],
)
def test_an_edition_is_chosen(known: list[Edition], wanted: str | None, chosen: Edition) -> None:
    assert wim.choose(known, wanted) == chosen


@pytest.mark.parametrize(
    ("known", "wanted", "told"),
    [
        ([HOME, PRO], "Ultimate", "0 editions are called 'Ultimate'; it has 1: Windows 11 Home"),
        ([CORE, DESKTOP], "ServerStandardEval", "2 editions are called"),
        ([HOME, HOME], None, "none of its editions is preferred; it has 1: Windows 11 Home"),
        ([], None, "it has nothing"),
        ([ARM], None, "is for arm64; guests here are amd64"),
    ],
)
def test_where_none_can_be_chosen_the_choices_are_told(known: list[Edition], wanted: str | None, told: str) -> None:
    with pytest.raises(MediaError, match=told):
        wim.choose(known, wanted)


@pytest.mark.parametrize(("edition", "folder"), [(PRO, "w11"), (TEN, "w10"), (DESKTOP, "2k22"), (CORE, "2k22")])
def test_each_version_has_drivers_of_its_own(edition: Edition, folder: str) -> None:
    assert edition.drivers == folder
    assert edition.wants_tpm == (folder == "w11")


def test_a_version_without_drivers_is_told() -> None:
    with pytest.raises(MediaError, match="build 9600: too old"):
        Edition(1, "Windows 8.1", "Core", "Client", "amd64", 9600, "en-US").drivers  # noqa: B018


# The media -----------------------------------------------------------------------------------------------


def windows_iso(path: Path, name: str, content: bytes, volume: str = "CCCOMA_X64") -> Path:
    """A medium with one file, in its UDF part and, as ISO 9660 has names, in the other."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, udf="2.60", vol_ident=volume)
    folder = name.rpartition("/")[0]
    if folder:
        image.add_directory(f"/{folder.upper()}", udf_path=f"/{folder}")
    image.add_fp(io.BytesIO(content), len(content), f"/{name.upper()};1", udf_path=f"/{name}")
    image.write(str(path))
    image.close()
    return path


@pytest.mark.parametrize("name", ["install.wim", "install.esd", "install.swm"])
def test_the_editions_on_a_medium_are_read(tmp_path: Path, name: str) -> None:
    iso = windows_iso(tmp_path / "w.iso", f"sources/{name}", wim_file(HOME, PRO))
    assert wim.editions(iso) == [HOME, PRO]


def test_a_medium_without_windows_is_told(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"has no sources/install\.wim, nor one of"):
        wim.editions(windows_iso(tmp_path / "w.iso", "readme.txt", b"no Windows"))


def test_what_is_no_iso_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.iso").write_bytes(bytes(2**20))
    with pytest.raises(MediaError, match="cannot be read as an ISO"):
        wim.editions(tmp_path / "w.iso")


@pytest.fixture
def media(tmp_path: Path) -> tuple[Path, Path]:
    drivers = windows_iso(tmp_path / "virtio-win.iso", "readme.txt", b"drivers")
    return windows_iso(tmp_path / "w.iso", "sources/install.wim", wim_file(HOME, PRO)), drivers


def test_the_given_media_become_an_installation(media: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = user_iso.from_options(*media, None, None, None)
    assert wanted
    assert (wanted.edition, wanted.firmware) == (PRO, "secure-boot")
    what = wanted.installation(tmp_path)
    assert (what.medium, what.more[0], "tpm" in what.devices, what.cpus) == (*media, True, 2)
    assert what.more[1].exists()


def test_nothing_is_asked_where_nothing_is_given() -> None:
    assert user_iso.from_options(None, None, None, None, None) is None


@pytest.mark.parametrize(
    ("missing", "edition", "firmware", "told"),
    [
        (0, None, None, "installed from two media"),
        (1, None, None, "installed from two media"),
        (None, "Ultimate", None, "are called 'Ultimate'"),
        (None, None, "bios", "installs with Secure Boot only"),
    ],
)
def test_what_does_not_fit_is_told(
    media: tuple[Path, Path], missing: int | None, edition: str | None, firmware: Firmware | None, told: str
) -> None:
    iso, drivers = (None if place == missing else path for place, path in enumerate(media))
    with pytest.raises(MediaError, match=told):
        user_iso.from_options(iso, drivers, edition, firmware, None)


def test_drivers_that_are_no_iso_are_told(media: tuple[Path, Path]) -> None:
    media[1].write_bytes(bytes(2**20))
    with pytest.raises(MediaError, match=r"--virtio-win-iso: .* is no ISO"):
        user_iso.from_options(*media, None, None, None)


def test_the_tests_own_stand_in_is_refused_even_where_it_has_a_windows_image(media: tuple[Path, Path]) -> None:
    """No stand-in's result may be recorded as a Windows'."""
    iso = windows_iso(media[0], "sources/install.wim", wim_file(HOME, PRO), standin.VOLUME)
    assert standin.is_standin(iso)
    with pytest.raises(MediaError, match="this project's test stand-in"):
        user_iso.from_options(iso, media[1], None, None, None)


def test_the_stand_in_is_refused_before_any_work_and_nothing_is_recorded(
    pytester: pytest.Pytester, media: tuple[Path, Path], tmp_path: Path
) -> None:
    iso = windows_iso(media[0], "sources/install.wim", wim_file(HOME, PRO), standin.VOLUME)
    options = [f"--windows-iso={iso}", f"--virtio-win-iso={media[1]}", f"--results={tmp_path / 'results'}"]
    done = pytester.runpytest_subprocess(str(paths.SUITES), "-m", "install_windows", *options, timeout=60)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*this project's test stand-in*"])
    assert not (tmp_path / "results").exists()


def test_another_medium_is_not_taken_for_the_stand_in(media: tuple[Path, Path]) -> None:
    assert not any(map(standin.is_standin, media))


# The answer file -----------------------------------------------------------------------------------------

REFERENCE: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("unattend.toml").read_text())
"""By component, and by a setting's place in it: what Microsoft's page on it says."""


def name(element: ET.Element) -> str:
    namespace, _, local = element.tag.partition("}")
    assert namespace == "{urn:schemas-microsoft-com:unattend"
    return local


def wrong(answer_file: bytes) -> Iterator[str]:
    """Yield what the reference does not have, or not there."""
    for one in ET.fromstring(answer_file):
        for component in one:
            yield from _wrong_settings(component, one.get("pass", ""), component.get("name", ""), "")


def _wrong_settings(parent: ET.Element, phase: str, component: str, place: str) -> Iterator[str]:
    for child in parent:
        here = f"{place}-{name(child)}".lower().removeprefix("-")
        page = REFERENCE.get(component.lower(), {}).get(here)
        if page is None:
            yield f"{component} has no page {here}"
            continue
        if phase not in page["passes"].split():
            yield f"{component}: {here} in {phase}"
        if "values" in page and (len(child) or not re.fullmatch(page["values"], child.text or "")):
            yield f"{here}={child.text!r}"
        if (child.get(f"{{{answers.WCM}}}action") == "add") != page.get("item", False):
            yield f"{here}: action"
        yield from _wrong_settings(child, phase, component, here)


@pytest.mark.parametrize("edition", [PRO, TEN, DESKTOP], ids=lambda edition: edition.drivers)
@pytest.mark.parametrize("firmware", ["bios", "efi", "secure-boot"])
@pytest.mark.parametrize("key", ["", "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"])
def test_the_answer_file_is_as_the_reference_has_it(edition: Edition, firmware: Firmware, key: str) -> None:
    assert list(wrong(answers.answers(edition, firmware, key))) == []


@pytest.mark.parametrize(
    ("right", "false", "told"),
    [
        (b'pass="specialize"', b'pass="windowsPE"', "Microsoft-Windows-Shell-Setup: computername in windowsPE"),
        (b">FAT32<", b">EXT4<", "format='EXT4'"),
        (b"HideEULAPage", b"HideEverything", "has no page oobe-hideeverything"),
        (b'<Disk wcm:action="add">', b"<Disk>", "diskconfiguration-disk: action"),
        (b'pass="oobeSystem"', b'pass="specialize"', "oobe in specialize"),
    ],
)
def test_what_is_not_as_the_reference_has_it_is_found(right: bytes, false: bytes, told: str) -> None:
    answer_file = answers.answers(PRO, "efi")
    assert right in answer_file
    assert any(told in line for line in wrong(answer_file.replace(right, false)))


Find = Callable[[str], list[str]]


def values(edition: Edition, firmware: Firmware) -> Find:
    root = ET.fromstring(answers.answers(edition, firmware))
    return lambda setting: [one.text or "" for one in root.iter(f"{{{answers.UNATTEND}}}{setting}")]


@pytest.mark.parametrize(
    ("firmware", "kinds", "target"),
    [
        ("bios", ["Primary", "Primary"], "2"),
        ("efi", ["EFI", "MSR", "Primary"], "3"),
        ("secure-boot", ["EFI", "MSR", "Primary"], "3"),
    ],
)
def test_the_disk_is_divided_for_the_firmware(firmware: Firmware, kinds: list[str], target: str) -> None:
    found = values(PRO, firmware)
    assert found("Type") == kinds
    assert found("PartitionID")[-1] == target  # of InstallTo
    assert found("Active") == (["true"] if firmware == "bios" else [])
    assert found("Extend") == ["true"]


def test_the_edition_its_language_and_its_drivers_are_chosen() -> None:
    found = values(TEN, "bios")
    assert found("Value")[0] == str(TEN.index)
    assert set(found("UILanguage")) == {"de-DE"}
    assert r"E:\viostor\w10\amd64" in found("Path")
    assert r"F:\NetKVM\w10\amd64" in found("Path")


def test_each_driver_path_has_a_number_of_its_own() -> None:
    root = ET.fromstring(answers.answers(PRO, "efi"))
    keys = [one.get(f"{{{answers.WCM}}}keyValue") for one in root.iter(f"{{{answers.UNATTEND}}}PathAndCredentials")]
    assert len(set(keys)) == len(keys) > 2


def test_the_answer_medium_has_both_files_for_another_reader(tmp_path: Path) -> None:
    """Read by what ECMA-119 says, and not by what wrote it: the root directory of the primary volume descriptor."""
    image = medium.answer_medium(PRO, "efi", "", tmp_path).read_bytes()
    descriptor = image[16 * 2048 : 17 * 2048]
    assert descriptor[:6] == b"\x01CD001"
    assert descriptor[40:72].rstrip() == b"ANSWERS"
    at, length = struct.unpack_from("<I4xI", descriptor, 156 + 2)
    directory, found = image[at * 2048 : at * 2048 + length], {}
    while directory and directory[0]:
        place, size = struct.unpack_from("<I4xI", directory, 2)
        found[directory[33 : 33 + directory[32]]] = image[place * 2048 :][:size]
        directory = directory[directory[0] :]
    assert found[b"AUTOUNATTEND.XML;1"] == answers.answers(PRO, "efi")
    assert found[b"REPORT.PS1;1"] == (medium.FOLDER / "report.ps1").read_bytes()


def test_what_is_started_at_the_first_logon_is_on_the_medium() -> None:
    (command,) = values(PRO, "efi")("CommandLine")
    assert answers.REPORT in command
    assert (medium.FOLDER / answers.REPORT).is_file()


# The stand-in's reading of it ----------------------------------------------------------------------------


def read_by_standin(answer_file: bytes) -> list[str]:
    """Return the answers as the stand-in reads them, with this machine's awk."""
    command = ["awk", "-v", "want=amd64", "-f", str(standin.RECIPE / "unattend.awk")]
    done = subprocess.run(command, input=answer_file, capture_output=True, timeout=60, check=True)
    return done.stdout.decode().splitlines()


def read_by_python(answer_file: bytes) -> Iterator[str]:
    """Yield the same, by a reader of XML."""
    for one in ET.fromstring(answer_file):
        for component in one:
            yield from _leaves(component, f"{one.get('pass')}/{component.get('name')}")


def _leaves(parent: ET.Element, place: str) -> Iterator[str]:
    counted: dict[str, int] = {}
    for child in parent:
        counted[name(child)] = counted.get(name(child), 0) + 1
        here = f"{place}/{name(child)}" + (f".{counted[name(child)]}" if counted[name(child)] > 1 else "")
        if len(child):
            yield from _leaves(child, here)
        elif child.text:
            yield f"{here}={child.text}"


@pytest.mark.parametrize("firmware", ["bios", "efi"])
@pytest.mark.parametrize("key", ["", '<&">amp;'])
@pytest.mark.parametrize("indented", [True, False])
def test_the_stand_in_reads_the_answers_as_a_reader_of_xml_does(firmware: Firmware, key: str, indented: bool) -> None:
    answer_file = answers.answers(PRO, firmware, key)
    if not indented:
        answer_file = re.sub(rb">\s+<", b"><", answer_file)
    read = read_by_standin(answer_file)
    assert read == list(read_by_python(answer_file))
    assert "windowsPE/Microsoft-Windows-Setup/DiskConfiguration/Disk/CreatePartitions/CreatePartition.2/Order=2" in read


def test_the_stand_in_leaves_out_what_is_for_another_processor() -> None:
    assert set(read_by_standin(answers.answers(ARM, "efi"))) == {"other=arm64"}
