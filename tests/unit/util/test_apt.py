from pathlib import Path

import pytest

from conformance.errors import HarnessError
from conformance.util import apt
from conformance.util.apt import MIRROR_VARIABLE, Mirror


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Debian, without the user's own choice."""
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian"})


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


# ----------------------------------------------------------------------------------------------- Ubuntu


INRELEASE = """\
Origin: Ubuntu
Label: Ubuntu
Suite: noble
Codename: noble
Architectures: amd64
Components: main universe
Date: Thu, 25 Apr 2024 15:10:33 UTC
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
"""


@pytest.fixture
def ubuntu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose apt has lists of Ubuntu's archive; returns the keyring of Debian that it has."""
    lists = tmp_path / "lists"
    (lists / "partial").mkdir(parents=True)
    (tmp_path / "sources.list").write_text("deb http://archive.example/ubuntu noble main\n")
    (lists / "archive.example_ubuntu_dists_noble_Release").write_text(INRELEASE)
    (lists / "archive.example_ubuntu_dists_noble_main_binary-amd64_Packages").write_text("")
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::State::lists "{lists}";\nDir::Etc::sourcelist "{tmp_path}/sources.list";\n'
        f'Dir::Etc::sourceparts "/dev/null";\nAPT::Architecture "amd64";\nAPT::Architectures "amd64";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "ubuntu", "ID_LIKE": "debian"})
    keyring = tmp_path / "debian-archive-keyring.gpg"
    keyring.write_text("keys")
    monkeypatch.setattr(apt, "KEYRING", keyring)
    return keyring


@pytest.mark.usefixtures("ubuntu")
def test_archives_of_another_origin_are_not_debians() -> None:
    assert apt._targets().splitlines() == ["http://archive.example/ubuntu/|Ubuntu|Ubuntu"]
    assert apt.parse(apt._targets()) == []


@pytest.mark.usefixtures("ubuntu")
def test_a_derivative_takes_debians_packages_from_debians_own_archive() -> None:
    assert apt.mirrors() == [*apt.DEBIAN]


def test_a_derivative_verifies_debians_archive_with_debians_keys(ubuntu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://here.example/debian")
    assert apt.sources("trixie") == [f"deb [signed-by={ubuntu}] http://here.example/debian/ trixie main"]
    ubuntu.unlink()
    with pytest.raises(HarnessError) as error:
        apt.sources("trixie")
    assert error.value.remedy.endswith("install debian-archive-keyring")


def test_debian_itself_trusts_its_archive_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://here.example/debian")
    assert apt.sources("trixie") == ["deb http://here.example/debian/ trixie main"]


def test_a_machine_without_a_description_of_its_system_is_not_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, str]:
        raise OSError("no os-release")

    monkeypatch.setattr("platform.freedesktop_os_release", missing)
    assert not apt.is_debian()
