"""Files that are written completely or not at all."""

import errno
import os
from pathlib import Path

import pytest

from conformance.errors import BadOption, HarnessError
from conformance.util import files

ELSEWHERE = "name another file"


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    files.write(tmp_path / "new" / "a.txt", "text", ELSEWHERE, parents=True)
    assert (tmp_path / "new" / "a.txt").read_text() == "text"
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free disk space"), (errno.EROFS, "writable"), (errno.EACCES, "writable")]
)
def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail(_self: Path, _target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(HarnessError) as caught:
        files.write(tmp_path / "a.txt", "new", ELSEWHERE)
    assert os.strerror(number) in caught.value.message
    assert remedy in caught.value.remedy
    assert ELSEWHERE in caught.value.remedy
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_below_a_writable_one_is_writable(tmp_path: Path) -> None:
    files.require_writable(tmp_path / "not" / "there", ELSEWHERE)
    assert not (tmp_path / "not").exists()


def test_a_folder_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadOption, match="no folder"):
        files.require_writable(tmp_path / "file" / "results", ELSEWHERE)


def test_a_read_only_folder_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere but on a read-only file system
    with pytest.raises(HarnessError, match="read-only") as caught:
        files.require_writable(tmp_path / "results", ELSEWHERE)
    assert str(tmp_path) in caught.value.message
