"""Makes a lab's disk, kernel, initramfs and SSH keys from pinned packages and container images."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.engine import base_image, image, local_daemon
from conformance.engine.client import connect
from conformance.errors import EngineError
from conformance.lab import DEFINITIONS, packages, seed
from conformance.lab.definition import KEY_LENGTH, Host
from conformance.lab.packages import Purpose
from conformance.media import download, store
from conformance.util import apt, paths, process

Progress = Callable[[str], None]

MAKE_SECONDS = 900

FILES = ("disk.raw", "vmlinuz", "initrd", "key", "known_hosts")

ALIAS = "lab"
"""The name of each lab for ssh: its port changes with each start, its key does not."""


@dataclass(frozen=True)
class Disk:
    """The files that a lab boots from; labs never write to them.

    Attributes:
        folder: their folder in the cache.
    """

    folder: Path

    @property
    def made(self) -> bool:
        """Whether all files exist."""
        return all((self.folder / name).exists() for name in FILES)

    @property
    def without_image(self) -> Path:
        """Return the file that marks a disk without the image, which no engine had; the lab then builds it."""
        return self.folder / "without-image"

    @property
    def root(self) -> Path:
        """Return the root file system, ext4."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        """Return the host's kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Return the initramfs of that kernel."""
        return self.folder / "initrd"

    def ssh(self, port: int) -> list[str]:
        """Return the options of ssh for a lab on a loopback port; they fit no other machine."""
        return [
            *("-p", str(port), "-i", str(self.folder / "key"), "-o", "IdentitiesOnly=yes", "-F", "none"),
            *("-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", "-o", f"HostKeyAlias={ALIAS}"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
        ]


def takes(host: Host, *, anew: bool = False) -> tuple[Purpose, ...]:
    """Return the purposes of the packages that this host's disk needs: none if it exists, unless it is made anew."""
    if not anew and Disk(paths.cache() / "lab" / host.folder).made:
        return ()
    return ("disk",) if os.geteuid() == 0 else ("disk", "user")


def ensure(host: Host, progress: Progress, *, cache: Path | None = None) -> Disk:
    """Return a host's disk; make it if it is not in the cache.

    Raises:
        LabError: a step failed.
        MediaError: a package could not be fetched.
    """
    cache = cache or paths.cache()
    (cache / "lab").mkdir(exist_ok=True)
    disk = Disk(cache / "lab" / host.folder)
    making = f"{host.name}-making-"
    with store.locked(cache / "lab" / f"{host.name}.lock", progress, f"the lab {host.name}"):
        process.sweep(cache / "lab", f"{making}*")
        if not disk.made:
            with tempfile.TemporaryDirectory(dir=cache / "lab", prefix=making) as temporary:
                log = cache / "lab" / f"{host.name}-make.log"
                log.write_bytes(b"")
                made = _make(host, Path(temporary), cache / "downloads", log, progress)
                shutil.rmtree(disk.folder, ignore_errors=True)
                made.rename(disk.folder)
    return disk


def remove(host: Host, progress: Progress) -> None:
    """Remove a host's disks and saved states, also those of earlier definitions; no lab of it may run."""
    cache = paths.cache() / "lab"
    cache.mkdir(exist_ok=True)
    with store.locked(cache / f"{host.name}.lock", progress, f"the lab {host.name}"):
        process.sweep(cache, f"{host.name}-{'?' * KEY_LENGTH}")


def _make(host: Host, work: Path, downloads: Path, log: Path, progress: Progress) -> Path:
    repository = _repository(host, work / "packages", downloads, progress)
    progress(f"{host.name}: making the root file system from {len(host.pinned)} packages")
    overlay = work / "overlay"
    for folder in host.overlays:
        shutil.copytree(folder, overlay, dirs_exist_ok=True)
    made = work / "made"
    made.mkdir(mode=0o700)
    _keys(host, overlay, made)
    process.run(
        process.as_root(
            [
                *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"),
                f"--include={','.join(host.packages)}",
                '--aptopt=Apt::Install-Recommends "false"',
                # The initramfs is made once, while its package is installed: its settings must be there before.
                "--setup-hook=mkdir -p $1/etc/initramfs-tools/conf.d",
                *(
                    f"--setup-hook=copy-in {overlay}/etc/initramfs-tools/{name} /etc/initramfs-tools/{place}"
                    for name, place in (("conf.d/lab", "conf.d"), ("modules", ""))
                ),
                "--dpkgopt=force-confold",
                f"--customize-hook=sync-in {overlay} /",
                '--customize-hook=chroot "$1" systemctl enable systemd-networkd',
                '--customize-hook=chroot "$1" systemctl mask systemd-networkd-wait-online.service',
                *(f'--customize-hook=chroot "$1" {one}' for one in host.setup),
                *(host.suite, str(work / "root.tar"), f"deb [trusted=yes] copy://{repository} ./"),
            ]
        ),
        log=log,
        seconds=MAKE_SECONDS,
    )
    (work / "layers.tsv").touch()
    if not _images(host, work, log, progress):
        (made / "without-image").touch()
    progress(f"{host.name}: making the disk")
    process.run(
        [*([] if os.geteuid() == 0 else ["fakeroot"]), str(DEFINITIONS / "assemble"), str(work), f"{host.disk_gib}G"],
        log=log,
        seconds=MAKE_SECONDS,
        environment={"PATH": packages.search_path()},
    )
    for name in ("disk.raw", "vmlinuz", "initrd"):
        (work / name).rename(made / name)
    return made


def _repository(host: Host, folder: Path, downloads: Path, progress: Progress) -> Path:
    """Put the pinned packages into a folder that apt accepts as an archive (apt: flat repository format)."""
    sources = [*apt.mirrors(), *(apt.Mirror(url) for url in host.fallback)]
    folder.mkdir()
    entries = []
    pinned = host.pinned
    progress(f"{host.name}: fetching missing ones of {len(pinned)} packages")
    for package in pinned:
        name = str(package)
        file = download.fetch(package, downloads, sources, lambda _: None)
        try:
            os.link(file, folder / name)
        except OSError:  # the folders lie on different file systems
            shutil.copy2(file, folder / name)
        control = subprocess.run(
            ["dpkg-deb", "--field", str(file)], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        entries.append(
            f"{control.rstrip()}\nFilename: ./{name}\nSize: {file.stat().st_size}\nSHA256: {package.sha256}\n"
        )
    index = "\n".join(entries).encode()
    (folder / "Packages").write_bytes(index)
    # mmdebstrap looks for the essential packages of the suite by its name.
    (folder / "Release").write_text(
        f"Suite: {host.suite}\nCodename: {host.suite}\nArchitectures: amd64\nSHA256:\n"
        f" {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n",
        encoding="ascii",
    )
    return folder


def _keys(host: Host, overlay: Path, made: Path) -> None:
    """Make the SSH keys of this user and of the lab; no other key opens the lab."""
    process.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(made / "key")],
        log=made.parent / "keys.log",
        seconds=60,
    )
    own = overlay / "etc/ssh/ssh_host_ed25519_key"
    own.parent.mkdir(parents=True)
    process.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(own)],
        log=made.parent / "keys.log",
        seconds=60,
    )
    kind, key, *_ = own.with_suffix(".pub").read_text(encoding="ascii").split()
    (made / "known_hosts").write_text(f"{ALIAS} {kind} {key}\n", encoding="ascii")
    authorized = overlay / "root/.ssh/authorized_keys"
    authorized.parent.mkdir(parents=True, mode=0o700)
    shutil.copy2(made / "key.pub", authorized)
    (overlay / "etc/hostname").write_text(f"lab-{host.name}\n", encoding="ascii")


def _images(host: Host, work: Path, log: Path, progress: Progress) -> bool:
    """Copy the image from an engine of this machine; return whether there was an engine."""
    archive = work / "images.tar"
    try:
        with local_daemon.engine(progress) as address:
            engine = connect(address)
            image.ensure_image(engine, progress)
            progress(f"{host.name}: taking the image from the engine at {address}")
            chains = seed.save(engine.client, [base_image.BASE, base_image.MADE_BASE, image.TAG], archive)
    except EngineError as error:
        progress(f"{host.name}: no engine to copy the image from ({error.message}): the lab will build it")
        return False
    seed.lay_out(archive, chains, work, log)
    return True
