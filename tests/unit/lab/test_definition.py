"""Lab hosts are data: what is no host is told, what changes makes another disk."""

import shutil
from pathlib import Path

import pytest

from conformance.errors import ContractError
from conformance.lab import DEFINITIONS, definition, pins


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the definitions that a test may damage."""
    copy = tmp_path / "lab"
    shutil.copytree(DEFINITIONS, copy)
    monkeypatch.setattr(definition, "DEFINITIONS", copy)
    return copy


def test_the_projects_own_hosts_are_whole() -> None:
    assert definition.DEFAULT in definition.names()
    for name in definition.names():
        host = definition.load(name)
        assert host.name == name
        assert len(host.pinned) > len(host.packages)
        assert all(file.pool.endswith(".deb") for file in host.pinned)


@pytest.mark.parametrize(
    ("word", "name"), [("lab", definition.DEFAULT), ("lab:", definition.DEFAULT), ("lab:debian-12", "debian-12")]
)
def test_a_word_names_a_host(word: str, name: str) -> None:
    host = definition.named(word)
    assert host
    assert host.name == name


def test_a_word_names_this_machine() -> None:
    assert definition.named("here") is None


@pytest.mark.parametrize("word", ["", "nosuch", "labs", "LAB", "debian-13", "docker:debian-13"])
def test_a_word_that_names_none_is_told_beside_those_that_do(word: str) -> None:
    with pytest.raises(ContractError, match=f"no host is called '{word}'") as caught:
        definition.named(word)
    assert "here, lab, lab:debian-12, lab:debian-13" in caught.value.remedy
    assert "DOCKER_HOST" in caught.value.remedy


@pytest.mark.parametrize("name", ["nosuch", "../hosts/debian-13", "debian-13.toml"])
def test_a_lab_that_does_not_exist_is_told_beside_those_that_do(name: str) -> None:
    with pytest.raises(ContractError, match="no lab host is called") as caught:
        definition.named(f"lab:{name}")
    assert caught.value.remedy == f"choose one of: {', '.join(definition.names())}"


@pytest.mark.parametrize(
    "content",
    [
        b"suite = ",
        b"",
        b'suite = "trixie"\nsummary = "x"\npackages = []\nfallback = []\nspeed = 9',
        b'suite = "trixie"\nsummary = "x"\npackages = []\nfallback = []\nname = "other"',
        b'suite = "trixie"\nsummary = "x"\npackages = []\nfallback = []\ncpus = 0',
        b'suite = "trixie"\nsummary = "x"\npackages = []\nfallback = ["ftp://192.0.2.1/"]',
        b"\xff\xfe",
    ],
)
def test_a_file_that_defines_no_host_is_named(definitions: Path, content: bytes) -> None:
    (definitions / "hosts" / "debian-13.toml").write_bytes(content)
    with pytest.raises(ContractError, match=r"lab/hosts/debian-13\.toml defines no lab host"):
        definition.load()


@pytest.mark.parametrize("content", [None, b"half a li", b"0123  pool/a.deb\n", b"\xff", b"a b c\n"])
def test_pins_that_pin_nothing_are_named(definitions: Path, content: bytes | None) -> None:
    host = definition.load()
    host.pins.unlink()
    if content is not None:
        host.pins.write_bytes(content)
    for ask in (lambda: host.pinned, lambda: host.key):
        with pytest.raises(ContractError, match=r"debian-13\.pins pins no packages") as caught:
            ask()
        assert caught.value.remedy == "conformance lab pin debian-13"


@pytest.mark.parametrize(
    "changed", ["hosts/debian-13.pins", "hosts/debian-13.toml", "overlay/etc/fstab", "overlay/new", "assemble"]
)
def test_whatever_a_disk_is_made_of_names_it(definitions: Path, changed: str) -> None:
    before = definition.load().key
    assert before == definition.load().key
    with (definitions / changed).open("a") as file:
        file.write("\ncpus = 3\n" if changed.endswith(".toml") else "# changed\n")
    assert definition.load().key != before
    assert len(before) == definition.KEY_LENGTH


def test_the_name_of_a_file_counts_too(definitions: Path) -> None:
    before = definition.load().key
    (definitions / "overlay/etc/fstab").rename(definitions / "overlay/etc/fstab.old")
    assert definition.load().key != before


def test_another_hosts_pins_do_not_count(definitions: Path) -> None:
    before = definition.load("debian-13").key
    (definitions / "hosts" / "debian-12.pins").write_text("")
    assert definition.load("debian-13").key == before


def test_what_apt_shows_is_read() -> None:
    shown = (
        "Package: one\nFilename: pool/main/o/one/one_1_amd64.deb\nSize: 7\nSHA256: aa\nDescription: a\n b\n .\n c\n\n"
        "Package: two\nSHA256: bb\nFilename: pool/updates/main/t/two/two_2+deb13u1_all.deb\n\n"
        "N: a note, and no package\n"
    )
    assert pins.parse(shown) == {
        "pool/main/o/one/one_1_amd64.deb": "aa",
        "pool/main/t/two/two_2+deb13u1_all.deb": "bb",
    }
    assert pins.parse("") == {}


def test_a_hosts_own_files_are_laid_over_every_labs_and_make_another_disk(definitions: Path) -> None:
    host = definition.load("debian-13-selinux")
    assert host.overlays == [definitions / "overlay", definitions / "hosts" / host.name]
    assert definition.load("debian-13").overlays == [definitions / "overlay"]
    before = host.key
    (definitions / "hosts" / host.name / "etc/selinux/config").write_text("SELINUX=permissive\n")
    assert host.key != before
