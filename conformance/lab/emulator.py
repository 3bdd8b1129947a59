"""The QEMU of a lab: the installed one if it can use nested KVM, else a patched one that is built here.

QEMU up to 10.0 aborts when a guest of an emulated hypervisor writes CR8, as OVMF does; lab/qemu holds the patches.
The build takes two to three minutes, once for each recipe, and stays in the cache.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import LabError
from conformance.host import kvm
from conformance.lab import DEFINITIONS, packages
from conformance.media import download, store
from conformance.media.probe import CMDLINE, Probe
from conformance.media.probe_report import MARK
from conformance.media.recipe import Pinned
from conformance.util import apt, paths, process

Progress = Callable[[str], None]

RECIPE = DEFINITIONS / "qemu"
INSTALLED = "qemu-system-x86_64"
FIRMWARE = ("/usr/share/qemu", "/usr/share/seabios")
"""Firmware from Debian's packages; QEMU's source package has none."""

BUILDING = "qemu-building-"
BUILD_SECONDS = 3600
ASK_SECONDS = 20


@dataclass(frozen=True)
class Emulator:
    """A QEMU and how it runs a lab.

    Attributes:
        program: its path.
        accel: the accelerator of the lab itself.
        version: for people, such as ``7.2.22, mended``.
    """

    program: str
    accel: Literal["kvm", "tcg"]
    version: str

    @property
    def described(self) -> str:
        """Return the outer accelerator as records name it."""
        return f"{'KVM' if self.accel == 'kvm' else EMULATION}, QEMU {self.version}"


EMULATION = "emulation (TCG)"
"""The name of emulation in records."""


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    patches: tuple[str, ...]
    configure: tuple[str, ...]
    fallback: tuple[str, ...]
    inputs: tuple[Pinned, Pinned]


def builds() -> bool:
    """Return whether a QEMU has to be built, as far as is known without a boot under KVM."""
    return not (_kvm_nests() or _binary(RECIPE, _load(RECIPE), paths.cache()).exists())


def ensure(probe: Probe, progress: Progress) -> Emulator:
    """Return the QEMU for this machine; build it if necessary.

    Args:
        probe: its kernel boots under KVM as a test.
        progress: gets each step.

    Raises:
        LabError: something is missing, or the build failed.
        MediaError: the source could not be fetched.
    """
    if _kvm_nests() and _kvm_boots(probe, progress):
        return Emulator(INSTALLED, "kvm", _version(INSTALLED))
    built = str(build(progress))
    return Emulator(built, "tcg", f"{_version(built)}, mended")


def _kvm_nests() -> bool:
    """Return whether this user may use KVM, and KVM supports nested guests (kernel documentation)."""
    flags = [Path(f"/sys/module/{module}/parameters/nested") for module in ("kvm_intel", "kvm_amd")]
    nested = any(flag.exists() and flag.read_text(encoding="ascii").strip() in ("1", "Y") for flag in flags)
    return nested and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _kvm_boots(probe: Probe, progress: Progress) -> bool:
    progress("booting a kernel under this machine's KVM")
    command = [
        *(INSTALLED, "-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "256", "-display", "none"),
        *("-nodefaults", "-no-reboot", "-serial", "stdio", "-kernel", str(probe.kernel), "-initrd", str(probe.initrd)),
        *("-append", f"{CMDLINE} probe.nonce=kvm"),
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_SECONDS, check=False)
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired as expired:  # after an internal error QEMU stays, paused
        said = (expired.stdout or b"") + (expired.stderr or b"")
    output = said.decode(errors="replace")
    answer = kvm.judge(output)
    # A QEMU that knows no KVM is not held against a host, but no kernel has booted.
    return answer is not None and answer.usable and MARK in output


def _version(binary: str) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    found = re.search(r"version (\S+)", said)
    if not found:
        raise LabError(
            f"cannot read the version of {binary}; --version printed: {said.strip() or 'nothing'}",
            "reinstall qemu-system-x86",
        )
    return found[1]


def build(progress: Progress, *, folder: Path = RECIPE, cache: Path | None = None) -> Path:
    """Return the program of the patched QEMU; build it if it is not in the cache.

    Raises:
        LabError: a package is missing, or the build failed.
        MediaError: the source could not be fetched.
    """
    recipe = _load(folder)
    cache = cache or paths.cache()
    (cache / "lab").mkdir(exist_ok=True)
    binary = _binary(folder, recipe, cache)
    with store.locked(cache / "lab" / "qemu.lock", progress, "the lab's QEMU"):
        process.sweep(cache / "lab", f"{BUILDING}*")
        if binary.exists():
            return binary
        packages.require("qemu")
        sources = [*apt.mirrors(), *(apt.Mirror(url) for url in recipe.fallback)]
        upstream, debian = (download.fetch(one, cache / "downloads", sources, progress) for one in recipe.inputs)
        log = cache / "lab" / "qemu-build.log"
        log.write_bytes(b"")
        with tempfile.TemporaryDirectory(dir=cache / "lab", prefix=BUILDING) as temporary:
            source = Path(temporary)
            progress(f"building QEMU {recipe.version} with {', '.join(recipe.patches)} (two to three minutes, once)")
            untar = ["tar", "--extract", f"--directory={source}"]
            # All of upstream's lies in a folder named by its version.
            process.run([*untar, "--strip-components=1", f"--file={upstream}"], log=log, seconds=300)
            process.run([*untar, f"--file={debian}"], log=log, seconds=300)
            for patch in (*_series(source), *(folder / name for name in recipe.patches)):
                process.run(["patch", "--strip=1", "--silent", f"--input={patch}"], log=log, seconds=60, folder=source)
            made = source / "made"
            made.mkdir()
            process.run([str(source / "configure"), *recipe.configure], log=log, seconds=BUILD_SECONDS, folder=made)
            process.run(["ninja", INSTALLED], log=log, seconds=BUILD_SECONDS, folder=made)
            process.run(["strip", INSTALLED], log=log, seconds=60, folder=made)
            binary.parent.mkdir(exist_ok=True)
            shutil.copy2(made / INSTALLED, binary.with_suffix(".new"))
            binary.with_suffix(".new").replace(binary)  # whole or not at all
    return binary


def _binary(folder: Path, recipe: _Recipe, cache: Path) -> Path:
    return cache / "lab" / f"qemu-{_key(folder, recipe)}" / INSTALLED


def _load(folder: Path) -> _Recipe:
    try:
        return _Recipe.model_validate(tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LabError(
            f"{folder}/recipe.toml is not a recipe: {error}", "restore the file from the repository"
        ) from error


def _key(folder: Path, recipe: _Recipe) -> str:
    digest = hashlib.sha256((folder / "recipe.toml").read_bytes())
    for patch in recipe.patches:
        digest.update((folder / patch).read_bytes())
    return digest.hexdigest()[:12]


def _series(source: Path) -> list[Path]:
    """Return Debian's own patches, in their order (quilt(1), the file series)."""
    lines = (source / "debian" / "patches" / "series").read_text(encoding="utf-8").splitlines()
    return [source / "debian" / "patches" / line.split()[0] for line in lines if line.strip() and line[0] != "#"]
