"""What a lab takes of this machine: named all at once, and before any work."""

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from conformance.errors import LabError
from conformance.lab import packages
from conformance.util import process

LIST = """\
# what for, what, package

start  sh               dash
start  no-such-program  one
start  /no/such/file    two
start  no-other-program one
disk   /etc/passwd      base-passwd
disk   mke2fs           e2fsprogs
user   newuidmap        uidmap
qemu   /no/such/header  three
"""


@pytest.fixture(autouse=True)
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages").write_text(LIST)
    monkeypatch.setattr(packages, "LIST", tmp_path / "packages")


def test_what_is_missing_is_named_all_at_once() -> None:
    with pytest.raises(LabError, match="not installed: one two three\n") as caught:
        packages.require("start", "disk", "qemu")
    assert "apt-get install --no-install-recommends one two three" in caught.value.remedy


def test_what_is_for_something_else_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # an administrator's programs count
    packages.require("disk")
    packages.require()


def stub(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_another_user_than_root_needs_users_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stub(tmp_path, "newuidmap", "")
    stub(tmp_path, "unshare", 'echo "$@" >>"$0.called"')
    packages.require("user")
    assert (tmp_path / "unshare.called").read_text() == f"{' '.join(process.NAMESPACE[1:])} true\n"
    stub(tmp_path, "unshare", "echo 'unshare: failed to find subuid' >&2; exit 1")
    with pytest.raises(LabError, match="user namespace: unshare: failed to find subuid") as caught:
        packages.require("user")
    assert "--add-subuids" in caught.value.remedy


def test_the_projects_own_list_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows = packages._rows()
    assert {purpose for purpose, _, _ in rows} == set(get_args(packages.Purpose))
    assert all(re.fullmatch(r"[a-z0-9.+-]+", package) for _, _, package in rows)
