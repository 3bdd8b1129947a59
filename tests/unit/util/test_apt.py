from pathlib import Path

import pytest

from conformance.util import apt
from conformance.util.apt import MIRROR_VARIABLE, Mirror


@pytest.fixture(autouse=True)
def no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def test_the_machines_own_archives() -> None:
    output = (
        "https://mirror.example/debian-security/|Debian|Debian-Security\n"
        "https://mirror.example/debian/|Debian|Debian\n"
        "https://mirror.example/debian|Debian|Debian\n"
        "https://other.example/apt/|Somebody|Somebody\n"
        "cdrom://[Debian 13]/|Debian|Debian\n"
        "https://mirror.example/never-updated/||\n"
    )
    assert [mirror.line("trixie") for mirror in apt.parse(output)] == [
        "deb https://mirror.example/debian/ trixie main",
        "deb https://mirror.example/debian-security/ trixie-security main",
    ]


def test_a_security_archive_that_was_never_updated_counts_beside_a_main_one() -> None:
    named = (
        "http://mirror.example/debian/|$(ORIGIN)|$(LABEL)\n"
        "http://mirror.example/debian-security|$(ORIGIN)|$(LABEL)\n"
        "http://other.example/apt/|$(ORIGIN)|$(LABEL)\n"
    )
    assert apt.parse("http://mirror.example/debian/|Debian|Debian\n", named) == [
        Mirror("http://mirror.example/debian/"),
        Mirror("http://mirror.example/debian-security/", security=True),
    ]
    assert apt.parse("http://other.example/apt/|Somebody|Somebody\n", named) == []


def test_a_list_of_mirrors_in_a_file(tmp_path: Path) -> None:
    names = tmp_path / "mirrors.list"
    names.write_text("# ours\nhttps://one.example/debian\tpriority:1\n\nhttps://two.example/debian/\n")
    assert apt.parse(f"mirror+file:{names}|Debian|Debian\n") == [
        Mirror("https://one.example/debian/"),
        Mirror("https://two.example/debian/"),
    ]


def test_apt_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "apt-get"
    stub.write_text("#!/bin/sh\necho 'http://three.example/debian/|Debian|Debian'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apt.sources("trixie") == ["deb http://three.example/debian/ trixie main"]


def test_a_security_archive_alone_gives_no_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "apt-get"
    stub.write_text("#!/bin/sh\necho 'http://three.example/debian-security/|Debian|Debian-Security'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apt.sources("trixie") == []


def test_no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert apt.mirrors() == []
    assert apt.sources("trixie") == []


def test_the_users_own_choice_comes_before_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://here.example/debian")
    assert apt.mirrors() == [Mirror("http://here.example/debian/")]
