"""A user's own medium, looked at before any work begins."""

import os
import re
from pathlib import Path

import pytest

from conformance.errors import MediaError
from conformance.installers.user_iso import DESCRIPTORS, from_options


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    file = tmp_path / "own.iso"
    file.write_bytes(bytes(DESCRIPTORS) + b"\1CD001\1")
    return file


def test_a_medium_is_booted_by_bios_unless_told_otherwise(iso: Path) -> None:
    own = from_options(iso, "login:", None)
    assert own
    assert (own.path, own.expected, own.firmware) == (iso, "login:", "bios")
    assert (from_options(iso, "login:", "efi") or own).firmware == "efi"


def test_without_options_there_is_no_medium() -> None:
    assert from_options(None, None, None) is None


def refused(iso: Path | None, expected: str | None = "login:") -> str:
    with pytest.raises(MediaError) as error:
        from_options(iso, expected, None)
    return error.value.message


def test_an_option_without_its_other_half_is_refused(iso: Path) -> None:
    assert refused(iso, None) == "--iso without --iso-expect"
    assert refused(None) == "--iso-expect without --iso"
    with pytest.raises(MediaError, match="--iso-firmware without --iso"):
        from_options(None, None, "efi")


def test_what_is_no_iso_is_refused(iso: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "none.iso").endswith("none.iso cannot be read: No such file or directory")
    assert refused(tmp_path).endswith("is a folder")
    (empty := tmp_path / "empty.iso").touch()
    assert refused(empty).endswith("empty.iso is empty")
    os.mkfifo(pipe := tmp_path / "pipe.iso")
    assert refused(pipe).endswith("pipe.iso is no file")
    for content in (b"short", bytes(DESCRIPTORS) + b"\1CD", bytes(2**16), bytes(DESCRIPTORS - 1) + b"\1CD001\1"):
        iso.write_bytes(content)
        assert "own.iso is no ISO: it has no volume descriptor at sector 16" in refused(iso)


def test_a_medium_that_may_not_be_read_is_refused(iso: Path) -> None:
    iso.chmod(0)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may read everything
    try:
        assert refused(iso).endswith("own.iso cannot be read: Permission denied")
    finally:
        os.seteuid(me)


@pytest.mark.parametrize("expected", ["(", "[a-", "*"])
def test_what_is_no_regular_expression_is_refused(iso: Path, expected: str) -> None:
    assert re.match(
        rf"--iso-expect: '{re.escape(expected)}' is no regular expression: .* at position", refused(iso, expected)
    )


@pytest.mark.parametrize("expected", ["", ".*", "(login:)?", "^"])
def test_an_expectation_that_cannot_fail_is_refused(iso: Path, expected: str) -> None:
    assert "matches an empty text" in refused(iso, expected)
