"""The QEMU that runs a lab, built by programs that only pretend, and a KVM that is only told of."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from conformance.errors import LabError
from conformance.lab import emulator, packages
from conformance.media import download
from conformance.media.probe import Probe
from conformance.media.recipe import Pinned
from conformance.util import apt

RECIPE = """\
version = "1.0-1"
patches = ["own.patch"]
configure = ["--with-nothing"]
fallback = []
[[inputs]]
pool = "pool/q/qemu_1.0.orig.tar.xz"
sha256 = "{zeros}"
[[inputs]]
pool = "pool/q/qemu_1.0-1.debian.tar.xz"
sha256 = "{zeros}"
""".format(zeros="0" * 64)

SERIES = "# Debian's own\nfirst.patch\n\nsub/second.patch -p1\n"

BOOTED = '@probe {"nonce":"kvm","seq":0,"event":"boot","cpuid_signature":"KVMKVMKVM"}'

PROBE = Probe(Path("iso"), Path("signed"), Path("kernel"), Path("initrd"), Path("peer"), "recipe")


def tar(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


class Workshop:
    """A recipe, its sources and a PATH of programs that note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.cache, self.bin, self.calls = (folder / name for name in ("recipe", "cache", "bin", "calls"))
        for one in (self.recipe, self.cache, self.bin):
            one.mkdir()
        (self.recipe / "recipe.toml").write_text(RECIPE)
        (self.recipe / "own.patch").write_text("one line")
        self.upstream = tar(
            folder / "upstream.tar", {"qemu-1.0/configure": f'#!/bin/sh\necho "configure $*" >>{self.calls}\n'}
        )
        self.debian = tar(folder / "debian.tar", {"debian/patches/series": SERIES})
        for name in ("patch", "meson", "strip"):
            self.program(name)
        self.program("ninja", "printf '#!/bin/sh\\necho QEMU emulator version 1.0\\n' >$1; chmod +x $1")

    def program(self, name: str, script: str = "") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{script}\n')
        path.chmod(0o755)

    def build(self) -> Path:
        self.calls.write_text("")
        return emulator.build(lambda _: None, folder=self.recipe, cache=self.cache)

    @property
    def made(self) -> set[str]:
        return {one.name for one in (self.cache / "lab").iterdir()}


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    workshop = Workshop(tmp_path)

    def fetch(package: Pinned, *_: object) -> Path:
        return workshop.debian if "debian.tar" in package.pool else workshop.upstream

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(apt, "mirrors", list)
    monkeypatch.setattr(packages, "require", lambda *_: None)
    monkeypatch.setenv("PATH", f"{workshop.bin}:{os.environ['PATH']}")
    return workshop


# ----------------------------------------------------------------------------------------------------- the build


def test_it_is_built_once_with_debians_patches_and_then_our_own(workshop: Workshop) -> None:
    built = workshop.build()
    assert built.parent.parent == workshop.cache / "lab"
    assert os.access(built, os.X_OK)
    called = workshop.calls.read_text().splitlines()
    assert [line.rpartition("/")[2] for line in called if line.startswith("patch")] == [
        "first.patch",
        "second.patch",
        "own.patch",
    ]
    assert [line.split()[0] for line in called[3:]] == ["configure", "ninja", "strip"]
    assert called[3] == "configure --with-nothing"
    assert {name for name in workshop.made if not name.startswith("qemu-")} == {"qemu.lock"}
    assert not [name for name in workshop.made if name.startswith(emulator.BUILDING)]

    assert workshop.build() == built
    assert workshop.calls.read_text() == ""


def test_debians_series_has_its_order_and_no_options(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "debian/patches").mkdir(parents=True)
    (tmp_path / "debian/patches/series").write_text(SERIES)
    patches = tmp_path / "debian" / "patches"
    assert emulator._series(tmp_path) == [patches / "first.patch", patches / "sub/second.patch"]


@pytest.mark.parametrize("changed", ["recipe.toml", "own.patch"])
def test_what_it_is_made_of_names_it(workshop: Workshop, changed: str) -> None:
    before = workshop.build()
    with (workshop.recipe / changed).open("a") as file:
        file.write("# changed\n")
    assert workshop.build() != before


@pytest.mark.parametrize("failing", ["patch", "ninja", "strip"])
def test_a_step_that_fails_shows_its_last_words_and_leaves_nothing(workshop: Workshop, failing: str) -> None:
    workshop.program(failing, "seq 99; echo 'Hunk #1 FAILED at 42.' >&2; exit 1")
    with pytest.raises(LabError, match=f"{failing} failed with status 1; its last words:\n") as caught:
        workshop.build()
    assert caught.value.message.endswith("Hunk #1 FAILED at 42.")
    assert "qemu-build.log" in caught.value.remedy
    assert workshop.made <= {"qemu.lock", "qemu-build.log"}


def test_what_a_killed_build_left_is_removed_by_the_next(workshop: Workshop) -> None:
    left = workshop.cache / "lab" / f"{emulator.BUILDING}killed" / "deep"
    left.mkdir(parents=True)
    workshop.build()
    assert not left.parent.exists()
    left.mkdir(parents=True)
    workshop.build()
    assert not left.parent.exists(), "also where nothing is to be built"


def test_what_is_not_installed_is_told_before_any_work(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def require(*purposes: str) -> None:
        raise LabError(f"not installed: {purposes}")

    monkeypatch.setattr(packages, "require", require)
    monkeypatch.setattr(download, "fetch", pytest.fail)
    with pytest.raises(LabError, match=r"not installed: \('qemu',\)"):
        workshop.build()


@pytest.mark.parametrize("text", [None, "version = ", "version = '1'", RECIPE + "odd = 1"])
def test_a_recipe_that_is_none(workshop: Workshop, text: str | None) -> None:
    (workshop.recipe / "recipe.toml").unlink()
    if text is not None:
        (workshop.recipe / "recipe.toml").write_text(text)
    with pytest.raises(LabError, match=r"recipe\.toml is not a recipe"):
        workshop.build()


def test_the_projects_own_recipe_is_one() -> None:
    recipe = emulator._load(emulator.RECIPE)
    assert all((emulator.RECIPE / patch).read_text() for patch in recipe.patches)
    assert len(emulator._key(emulator.RECIPE, recipe)) == 12


# ----------------------------------------------------------------------------------------------------- which one


@pytest.fixture
def qemu(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    """Say whether KVM boots a kernel where QEMU does what a script does."""
    monkeypatch.setattr(emulator, "ASK_SECONDS", 0.5)

    def boots(script: str) -> bool:
        workshop.program(emulator.INSTALLED, script)
        return emulator._kvm_boots(PROBE, lambda _: None)

    return boots


@pytest.mark.parametrize(
    ("script", "boots"),
    [
        (f"cat <<'END'\nnoise\n{BOOTED}\nEND", True),
        (f"cat <<'END'\n{BOOTED}\nEND\nexec sleep 60", True),
        ("echo 'KVM internal error. Suberror: 1'; echo 'emulation failure'; exec sleep 60", False),
        ("echo 'qemu-system-x86_64: Could not access KVM kernel module: Permission denied' >&2; exit 1", False),
        ("echo 'qemu-system-x86_64: invalid accelerator kvm' >&2; exit 1", False),
        (f"cat <<'END'\n{BOOTED.replace('KVMKVMKVM', 'TCGTCGTCGTCG')}\nEND", False),
        ("exit 0", False),
        ("exec sleep 60", False),
    ],
)
def test_only_a_kernel_that_reports_under_kvm_counts(qemu: Callable[[str], bool], script: str, boots: bool) -> None:
    assert qemu(script) is boots


@pytest.mark.parametrize("nests", [True, False])
def test_one_is_to_be_built_where_kvm_cannot_serve_and_none_is_there(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, nests: bool
) -> None:
    monkeypatch.setattr(emulator, "_kvm_nests", lambda: nests)
    monkeypatch.setattr(emulator, "RECIPE", workshop.recipe)
    monkeypatch.setenv("CONFORMANCE_CACHE", str(workshop.cache))
    assert emulator.builds() is not nests
    workshop.build()
    assert not emulator.builds()


@pytest.mark.parametrize(("nests", "boots", "accel"), [(True, True, "kvm"), (True, False, "tcg"), (False, True, "tcg")])
def test_kvm_where_it_nests_and_boots_and_else_the_mended_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, nests: bool, boots: bool, accel: str
) -> None:
    monkeypatch.setattr(emulator, "_kvm_nests", lambda: nests)
    monkeypatch.setattr(emulator, "_kvm_boots", lambda *_: boots)
    monkeypatch.setattr(emulator, "build", lambda _: shutil.which("mended"))
    workshop.program("mended", "echo 'QEMU emulator version 7.2.22 (Debian 1:7.2)'")
    workshop.program(emulator.INSTALLED, "echo QEMU emulator version 9.9.9")
    found = emulator.ensure(PROBE, lambda _: None)
    assert found.accel == accel
    assert found.described == ("KVM, QEMU 9.9.9" if accel == "kvm" else "emulation (TCG), QEMU 7.2.22, mended")


def test_a_qemu_that_does_not_tell_its_version(workshop: Workshop) -> None:
    workshop.program(emulator.INSTALLED, "exit 1")
    with pytest.raises(LabError, match=r"cannot read the version of .*: nothing"):
        emulator._version(emulator.INSTALLED)
