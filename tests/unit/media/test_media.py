"""The boot media: fetching by checksum, building to the same bytes, keeping them whole."""

import contextlib
import errno
import hashlib
import io
import lzma
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pycdlib
import pytest

from conformance.errors import MediaError
from conformance.guests.install_watch import LOADER_BYTES
from conformance.installers.windows import standin
from conformance.media import build, debian, download, formats, packages, recipe, store, third_party
from conformance.media import probe as probe_media
from conformance.util.apt import MIRROR_VARIABLE, Mirror

MODULES = "usr/lib/modules/1.0"


def deb(files: Mapping[str, bytes]) -> bytes:
    """Write a package as dpkg-deb does, as far as deb(5) goes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(f"./{path}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    out = b"!<arch>\n"
    for name, member in {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(member):<10}`\n".encode() + member
        out += b"\n" * (len(member) % 2)
    return out


def module(depends: str) -> bytes:
    return lzma.compress(b"\x7fELF code\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


KERNEL = deb(
    {
        "boot/vmlinuz-1.0": b"a kernel",
        f"{MODULES}/kernel/disk/virtio_blk.ko.xz": module(""),
        f"{MODULES}/kernel/disk/ahci.ko.xz": module("libata,libahci"),
        f"{MODULES}/kernel/disk/libahci.ko.xz": module("libata"),
        f"{MODULES}/kernel/disk/libata.ko.xz": module("scsi-mod"),
        f"{MODULES}/kernel/disk/scsi-mod.ko.xz": module(""),
        f"{MODULES}/kernel/disk/unused.ko.xz": module("not,there"),
    }
)
TOOLS = deb(
    {
        "busybox": b"busy",
        "isolinux.bin": bytes(4096),
        "ldlinux.c32": b"ld",
        "gcdx64.efi": b"grub" * 1000,
        "gcdx64.efi.signed": b"signed grub" * 1000,
        "shimx64.efi.signed": b"shim" * 1000,
    }
)


class Archive(ThreadingHTTPServer):
    """A Debian archive on loopback."""

    def __init__(self) -> None:
        self.files = {"/pool/k.deb": KERNEL, "/pool/t.deb": TOOLS}
        self.asked: list[str] = []
        self.cut = 0
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.cut])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  - named by the base class
        pass


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Archive() as server:
        monkeypatch.setenv(MIRROR_VARIABLE, server.url)
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe of tiny packages, with the probe's own files."""
    made = tmp_path / "recipe"
    shutil.copytree(probe_media.RECIPE, made)
    write_recipe(made)
    return made


def write_recipe(folder: Path, fallback: str = "", load: str = "'ahci', 'virtio_blk'", kernel: bytes = KERNEL) -> None:
    (folder / "recipe.toml").write_text(
        f"""
        volume = "TINY"
        fallback = [{fallback!r}]
        modules = "{MODULES}"
        load = [{load}]
        [[inputs]]
        package = "kernel"
        version = "1.0"
        pool = "pool/k.deb"
        sha256 = "{hashlib.sha256(kernel).hexdigest()}"
        files.vmlinuz = "boot/vmlinuz-1.0"
        [[inputs]]
        package = "tools"
        version = "2.0"
        pool = "pool/t.deb"
        sha256 = "{hashlib.sha256(TOOLS).hexdigest()}"
        [inputs.files]
        busybox = "busybox"
        isolinux = "isolinux.bin"
        ldlinux = "ldlinux.c32"
        grub = "gcdx64.efi"
        shim = "shimx64.efi.signed"
        signed_grub = "gcdx64.efi.signed"
        """.replace("['']", "[]")
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir()
    return made


def stored(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "downloads").iterdir())


# Building ---------------------------------------------------------------------------------------------


def test_media_are_built_once_and_then_need_no_network(archive: Archive, folder: Path, cache: Path) -> None:
    first = probe_media.ensure(folder=folder, cache=cache)
    archive.files.clear()
    said: list[str] = []

    assert probe_media.ensure(said.append, folder=folder, cache=cache) == first
    assert said == []
    assert first.kernel.read_bytes() == b"a kernel"
    assert first.recipe == recipe.fingerprint(folder)


def test_the_same_recipe_gives_the_same_bytes_anywhere_and_at_any_time(
    archive: Archive, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sums(name: str) -> str:
        made = probe_media.ensure(folder=folder, cache=tmp_path / name)
        return (made.iso.parent / store.CHECKSUMS).read_text()

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = sums("one")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
        second = sums("two")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert first == second


@pytest.mark.parametrize("file", recipe.FILES)
def test_whatever_is_changed_gives_other_media(folder: Path, file: str) -> None:
    before = recipe.fingerprint(folder)
    with (folder / file).open("a") as changed:
        changed.write("# changed\n")

    assert recipe.fingerprint(folder) != before


@contextlib.contextmanager
def opened(iso: Path) -> Iterator[tuple[pycdlib.PyCdlib, Callable[[str], bytes]]]:
    """Have a medium open, and what reads a file of it."""
    image = pycdlib.PyCdlib()
    image.open(str(iso))

    def read(path: str) -> bytes:
        out = io.BytesIO()
        image.get_file_from_iso_fp(out, rr_path=path)
        return out.getvalue()

    try:
        yield image, read
    finally:
        image.close()


def test_the_iso_boots_by_both_firmwares_and_names_its_recipe(archive: Archive, folder: Path, cache: Path) -> None:
    made = probe_media.ensure(folder=folder, cache=cache)
    with opened(made.iso) as (image, read):
        catalog = image.eltorito_boot_catalog
        assert catalog is not None
        assert image.pvd.volume_identifier.rstrip() == b"TINY"
        assert catalog.validation_entry.platform_id == 0  # x86 BIOS
        assert [section.platform_id for section in catalog.sections] == [0xEF]  # UEFI
        assert read("/.disk/info") == made.recipe.encode() + b"\n"
        assert read("/boot/vmlinuz") == made.kernel.read_bytes()
        assert read("/boot/initrd") == made.initrd.read_bytes()
        assert b"grub" * 1000 in read("/efi.img")
        # The boot information table: where the loader finds itself and the volume descriptor.
        assert struct.unpack_from("<I", read("/isolinux/isolinux.bin"), 8) == (16,)


@pytest.mark.parametrize("size", [1, 2048, 2049, 2_400_000, 8_000_000])
def test_the_efi_image_holds_its_loaders(size: int) -> None:
    loader = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    second = b"what the first one loads" * 100
    image = formats.efi_image({"BOOTX64.EFI": loader, "GRUBX64.EFI": second})
    sector, per_cluster, reserved, fats, roots, sectors, _, fat_size = struct.unpack_from("<HBHBHHBH", image, 11)
    root = (reserved + fats * fat_size) * sector
    data = root + roots * 32
    cluster = sector * per_cluster

    def follow(number: int) -> bytes:
        content = bytearray()
        while number < 0xFF8:
            start = data + (number - 2) * cluster
            content += image[start : start + cluster]
            pair = struct.unpack_from("<H", image, reserved * sector + number * 3 // 2)[0]
            number = pair >> 4 if number % 2 else pair & 0xFFF
        return bytes(content)

    def find(entries: bytes, name: bytes) -> tuple[int, int]:
        found = next(entries[at : at + 32] for at in range(0, len(entries), 32) if entries[at : at + 11] == name)
        first, size = struct.unpack_from("<HI", found, 26)
        return first, size

    efi, _ = find(image[root:data], b"EFI        ")
    boot, _ = find(follow(efi), b"BOOT       ")
    for name, content in ((b"BOOTX64 EFI", loader), (b"GRUBX64 EFI", second)):
        start, length = find(follow(boot), name)
        assert follow(start)[:length] == content
    assert len(image) == sectors * sector


def test_loaders_too_large_for_the_efi_image_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        formats.efi_image({"BOOTX64.EFI": bytes(4_500_000), "GRUBX64.EFI": bytes(4_500_000)})


def test_only_the_signed_medium_carries_the_signed_chain(archive: Archive, folder: Path, cache: Path) -> None:
    made = probe_media.ensure(folder=folder, cache=cache)
    assert b"shimshim" in made.signed_iso.read_bytes()
    assert b"signed grub" in made.signed_iso.read_bytes()
    assert b"shimshim" not in made.iso.read_bytes()


def test_the_initramfs_has_parents_before_children_and_executables() -> None:
    tree = formats.Tree({"lib/a/data": b"12345"}, {"init": b"#!"}, {"bin/sh": "busybox"}, ("proc",))
    archive = formats.cpio(tree)
    entries: list[tuple[str, int, bytes]] = []
    at = 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + 110 + fields[11]
        start += -start % 4
        entries.append((name, fields[1], archive[start : start + fields[6]]))
        at = start + fields[6] + -fields[6] % 4

    assert entries == [
        ("bin", 0o040755, b""),
        ("bin/sh", 0o120777, b"busybox"),
        ("init", 0o100755, b"#!"),
        ("lib", 0o040755, b""),
        ("lib/a", 0o040755, b""),
        ("lib/a/data", 0o100644, b"12345"),
        ("proc", 0o040755, b""),
        ("TRAILER!!!", 0, b""),
    ]


def test_the_peer_is_a_root_file_system_that_can_run_its_page(archive: Archive, folder: Path, cache: Path) -> None:
    made = probe_media.ensure(folder=folder, cache=cache)
    with tarfile.open(made.peer) as peer:
        modes = {entry.name: entry.mode for entry in peer}
        assert peer.getmember("bin/sh").linkname == "busybox"

    assert modes["bin/busybox"] == modes["www/cgi-bin/whoami"] == 0o755
    assert probe_media.PEER_COMMAND[0] == "/bin/busybox"


# The guest's own programs -----------------------------------------------------------------------------


def test_the_pattern_is_what_the_guest_writes() -> None:
    done = subprocess.run(["sh", probe_media.RECIPE / "init", "pattern", "0123abcd"], capture_output=True, check=True)

    assert done.stdout == probe_media.disk_pattern("0123abcd")
    assert len(done.stdout) == probe_media.DISK_LENGTH
    assert f"\nDISK_OFFSET={probe_media.DISK_OFFSET} " in (probe_media.RECIPE / "init").read_text()
    assert probe_media.disk_pattern("ab") != probe_media.disk_pattern("cd")


@pytest.mark.parametrize(
    ("address", "client"),
    [("[::ffff:172.17.0.3]", "172.17.0.3"), ("172.17.0.3", "172.17.0.3"), ("[fd00::1]", "fd00::1")],
)
def test_the_peer_tells_whom_it_sees(address: str, client: str) -> None:
    done = subprocess.run(
        ["sh", probe_media.RECIPE / "whoami"],
        env={"PATH": "/usr/bin:/bin", "REMOTE_ADDR": address, "QUERY_STRING": 'ab"\n\\cd'},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith(f'\n\n{{"client": "{client}", "query": "abcd"}}\n')


def test_every_boot_has_the_same_command_line() -> None:
    for file in ("grub.cfg", "isolinux.cfg"):
        assert re.search(rf"(vmlinuz|APPEND) {probe_media.CMDLINE}\n", (probe_media.RECIPE / file).read_text())


def test_the_projects_recipe_is_one() -> None:
    assert recipe.load(probe_media.RECIPE).inputs


# Fetching ---------------------------------------------------------------------------------------------


def test_a_wrong_file_is_neither_used_nor_kept(archive: Archive, folder: Path, cache: Path) -> None:
    archive.files["/pool/t.deb"] += b"!"
    with pytest.raises(MediaError, match=r"has SHA-256 .* where the recipe pins") as caught:
        probe_media.ensure(folder=folder, cache=cache)

    assert "correct the pin" in caught.value.remedy
    assert stored(cache) == [f"{hashlib.sha256(KERNEL).hexdigest()}.deb"]


def test_a_superseded_package_is_said_to_be_one(archive: Archive, folder: Path, cache: Path) -> None:
    del archive.files["/pool/k.deb"]
    with pytest.raises(MediaError, match=r"kernel 1\.0 .*404") as caught:
        probe_media.ensure(folder=folder, cache=cache)

    assert "superseded" in caught.value.remedy


def test_a_superseded_package_comes_from_where_old_ones_are_kept(archive: Archive, folder: Path, cache: Path) -> None:
    archive.files["/old/pool/k.deb"] = archive.files.pop("/pool/k.deb")
    write_recipe(folder, fallback=f"{archive.url}old/")

    assert probe_media.ensure(folder=folder, cache=cache).kernel.exists()
    assert archive.asked == ["/pool/k.deb", "/old/pool/k.deb", "/pool/t.deb"]


def test_a_download_that_breaks_off_leaves_nothing(archive: Archive, folder: Path, cache: Path) -> None:
    archive.cut = 10
    with pytest.raises(MediaError, match=r"broke off after \d+ of \d+ bytes") as caught:
        probe_media.ensure(folder=folder, cache=cache)
    assert "check the network" in caught.value.remedy
    assert stored(cache) == []

    archive.cut = 0
    assert probe_media.ensure(folder=folder, cache=cache).iso.exists()


def test_without_a_network_the_remedy_is_the_network(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port:
        closed = port.getsockname()[1]
    monkeypatch.setenv(MIRROR_VARIABLE, f"http://127.0.0.1:{closed}")
    with pytest.raises(MediaError, match="refused") as caught:
        probe_media.ensure(folder=folder, cache=cache)

    assert "check the network" in caught.value.remedy


def test_a_silent_server_is_given_up(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "STALL", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(MIRROR_VARIABLE, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(MediaError, match="timed out"):
            probe_media.ensure(folder=folder, cache=cache)


def test_a_damaged_download_is_fetched_again(archive: Archive, folder: Path, cache: Path) -> None:
    (cache / "downloads").mkdir()
    (cache / "downloads" / f"{hashlib.sha256(KERNEL).hexdigest()}.deb").write_bytes(b"half")
    said: list[str] = []

    assert probe_media.ensure(said.append, folder=folder, cache=cache).kernel.exists()
    assert "the stored kernel 1.0 is damaged: fetching it again" in said


def test_downloads_outlive_a_changed_recipe(archive: Archive, folder: Path, cache: Path) -> None:
    probe_media.ensure(folder=folder, cache=cache)
    with (folder / "init").open("a") as init:
        init.write("# changed\n")
    probe_media.ensure(folder=folder, cache=cache)

    assert archive.asked == ["/pool/k.deb", "/pool/t.deb"]


def test_a_machine_that_knows_no_archive_is_told_how_to_name_one(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(folder))  # no apt-get there
    with pytest.raises(MediaError, match="no Debian archive is known") as caught:
        probe_media.ensure(folder=folder, cache=cache)

    assert MIRROR_VARIABLE in caught.value.remedy


def test_the_security_archive_has_a_pool_of_its_own(archive: Archive, folder: Path, cache: Path) -> None:
    archive.files["/pool/updates/k.deb"] = archive.files.pop("/pool/k.deb")
    sources = [Mirror(archive.url), Mirror(archive.url, security=True)]

    path = download.fetch(recipe.load(folder).inputs[0], cache, sources, lambda _: None)
    assert path.read_bytes() == KERNEL


# Keeping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["probe.iso", "initrd", store.CHECKSUMS])
def test_damaged_media_are_built_again(archive: Archive, folder: Path, cache: Path, file: str) -> None:
    made = probe_media.ensure(folder=folder, cache=cache)
    good = made.iso.read_bytes()
    (made.iso.parent / file).write_bytes(b"damaged")

    assert probe_media.ensure(folder=folder, cache=cache).iso.read_bytes() == good


def test_missing_media_are_built_again(archive: Archive, folder: Path, cache: Path) -> None:
    made = probe_media.ensure(folder=folder, cache=cache)
    made.initrd.unlink()

    assert probe_media.ensure(folder=folder, cache=cache).initrd.exists()


def test_many_at_once_build_once(archive: Archive, folder: Path, cache: Path) -> None:
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: probe_media.ensure(folder=folder, cache=cache), range(4)))

    assert len(set(made)) == 1
    assert archive.asked == ["/pool/k.deb", "/pool/t.deb"]
    assert [path.name for path in (cache / "media").iterdir()] == [made[0].recipe]


def test_a_lock_held_for_too_long_is_an_error(
    archive: Archive, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUILD_SECONDS", 0.1)
    said: list[str] = []
    with store.locked(cache / "media.lock", said.append), pytest.raises(MediaError, match="another process") as caught:
        probe_media.ensure(said.append, folder=folder, cache=cache)

    assert said == ["waiting for another process that builds the boot media"]
    assert "media.lock" in caught.value.remedy


def test_a_full_disk_is_said_to_be_full(
    archive: Archive, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "put", full)
    with pytest.raises(MediaError, match="no space is left") as caught:
        probe_media.ensure(folder=folder, cache=cache)

    assert "CONFORMANCE_CACHE" in caught.value.remedy


def test_a_full_disk_during_a_download_is_no_network_error(archive: Archive, folder: Path, cache: Path) -> None:
    (cache / f"{hashlib.sha256(KERNEL).hexdigest()}.partial").symlink_to("/dev/full")
    sources = [Mirror(archive.url)]
    with pytest.raises(MediaError, match="no space is left"):
        download.fetch(recipe.load(folder).inputs[0], cache, sources, lambda _: None)


def test_a_cache_that_cannot_be_written_is_named(archive: Archive, folder: Path, cache: Path) -> None:
    (cache / "media").write_text("in the way")
    with pytest.raises(MediaError, match="cannot be used for boot media"):
        probe_media.ensure(folder=folder, cache=cache)


# Recipes and packages ---------------------------------------------------------------------------------


def test_modules_come_with_all_they_need_in_an_order_that_loads() -> None:
    modules = {
        f"k/{name}.ko.xz": module(needs)
        for name, needs in {"ahci": "libata,libahci", "libahci": "libata", "libata": "scsi-mod", "scsi-mod": ""}.items()
    }
    loaded, dep = packages.module_closure(["ahci"], modules)

    assert sorted(loaded) == ["ahci.ko", "libahci.ko", "libata.ko", "scsi_mod.ko"]
    # modprobe loads from the end of a line.
    assert "ahci.ko: libahci.ko libata.ko scsi_mod.ko\n" in dep
    assert "scsi_mod.ko:\n" in dep


def test_an_unknown_module_is_named(archive: Archive, folder: Path, cache: Path) -> None:
    write_recipe(folder, load="'ext2'")
    with pytest.raises(MediaError, match="no module ext2"):
        probe_media.ensure(folder=folder, cache=cache)


def test_a_package_without_what_is_taken_from_it_is_named(archive: Archive, folder: Path, cache: Path) -> None:
    kernel = deb({"boot/vmlinuz-2.0": b"another"})
    archive.files["/pool/k.deb"] = kernel
    write_recipe(folder, kernel=kernel)
    with pytest.raises(MediaError, match=r"kernel 1\.0 has no file boot/vmlinuz-1\.0"):
        probe_media.ensure(folder=folder, cache=cache)


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"something else entirely", KERNEL[:400]])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(MediaError, match="not a Debian package"):
        packages.contents(path, {"any"}, "none/")


@pytest.mark.parametrize("text", ["volume = 1", "not toml at all", "volume = 'A'\nmore = 'than asked'"])
def test_what_is_no_recipe_is_refused(folder: Path, text: str) -> None:
    (folder / "recipe.toml").write_text(text)
    with pytest.raises(MediaError, match="is not a recipe"):
        recipe.load(folder)


def test_a_recipe_that_takes_too_little_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "k.deb"
    path.write_bytes(KERNEL)
    kept = recipe.load(folder)
    with pytest.raises(MediaError, match="takes no busybox, grub, isolinux, ldlinux"):
        build.media(folder, kept, [(kept.inputs[0], path)], "name")


# Debian's installer -------------------------------------------------------------------------------------


@pytest.fixture
def debian_folder(folder: Path) -> Path:
    """A recipe of an installer with one component beside the probe's, of which all comes from its packages."""
    made = folder.parent / "debian"
    shutil.copytree(debian.RECIPE, made)
    folder.rename(folder.parent / "probe")
    (made / "recipe.toml").write_text(
        f"""
        suite = "trixie"
        fallback = []
        [installer]
        package = "installer"
        version = "13"
        pool = "pool/k.deb"
        sha256 = "{hashlib.sha256(KERNEL).hexdigest()}"
        files.vmlinuz = "boot/vmlinuz-1.0"
        files.initrd = "boot/vmlinuz-1.0"
        [[components]]
        pool = "pool/t.deb"
        sha256 = "{hashlib.sha256(TOOLS).hexdigest()}"
        """
    )
    return made


def test_an_installer_becomes_a_medium_with_answers_and_components(
    archive: Archive, debian_folder: Path, cache: Path
) -> None:
    medium = debian.ensure(folder=debian_folder, cache=cache)
    assert (medium.suite, medium.version) == ("trixie", "13")
    with opened(medium.iso) as (_, read):
        initrd = read("/boot/initrd")
        # The kernel looks for the next archive at a multiple of four bytes.
        assert initrd.startswith(b"a kernel070701")
        for file in ("preseed.cfg", "agent", "conformance.service"):
            assert (debian_folder / file).read_bytes() in initrd
        assert b"conformance/components/t.deb\0" in initrd
        assert TOOLS in initrd
        assert b"shim" * 1000 in read("/efi.img")
        assert read("/boot/vmlinuz") == b"a kernel"
        assert b"priority=critical" in read("/isolinux/isolinux.cfg")
        assert read("/.disk/info").decode().strip() == medium.iso.parent.name


def test_an_installers_medium_is_built_once(archive: Archive, debian_folder: Path, cache: Path) -> None:
    first = debian.ensure(folder=debian_folder, cache=cache)
    archive.files.clear()
    assert debian.ensure(folder=debian_folder, cache=cache) == first


@pytest.mark.parametrize("file", ["preseed.cfg", "agent", "../probe/recipe.toml"])
def test_whatever_is_changed_gives_another_installers_medium(
    archive: Archive, debian_folder: Path, cache: Path, file: str
) -> None:
    before = debian.ensure(folder=debian_folder, cache=cache)
    with (debian_folder / file).open("a") as changed:
        changed.write("# changed\n")
    assert debian.ensure(folder=debian_folder, cache=cache) != before


@pytest.mark.parametrize("text", ["suite = 'trixie'", "not toml at all"])
def test_what_is_no_recipe_of_an_installer_is_refused(debian_folder: Path, text: str) -> None:
    (debian_folder / "recipe.toml").write_text(text)
    with pytest.raises(MediaError, match="is not a recipe"):
        debian.ensure(folder=debian_folder)


def test_the_installers_components_fit_its_kernel() -> None:
    text = (debian.RECIPE / "recipe.toml").read_text()
    assert len(set(re.findall(r"-modules-([^_]+)-di_", text))) == 1


def test_both_loaders_start_the_installer_alike() -> None:
    isolinux = re.search(r"APPEND (.*)", (debian.RECIPE / "isolinux.cfg").read_text())
    grub = re.search(r"linux /boot/vmlinuz (.*)", (debian.RECIPE / "grub.cfg").read_text())
    assert isolinux
    assert grub
    assert isolinux[1] == grub[1]


# Media that others made -----------------------------------------------------------------------------------


def others_recipe(folder: Path, file: str) -> Path:
    path = folder / "others.toml"
    path.write_text(
        f"""
        fallback = []
        [[inputs]]
        package = "tools"
        version = "2.0"
        pool = "pool/t.deb"
        sha256 = "{hashlib.sha256(TOOLS).hexdigest()}"
        files."other.iso" = "{file}"
        """
    )
    return path


def test_media_of_others_are_taken_as_they_are_and_once(archive: Archive, tmp_path: Path, cache: Path) -> None:
    path = others_recipe(tmp_path, "busybox")
    for _ in range(2):
        assert third_party.third_party_media(recipe=path, cache=cache)["other.iso"].read_bytes() == b"busy"
    assert archive.asked == ["/pool/t.deb"]


@pytest.mark.usefixtures("archive")
def test_a_package_without_the_medium_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(MediaError, match=r"tools 2\.0 has no file gone\.iso"):
        third_party.third_party_media(recipe=others_recipe(tmp_path, "gone.iso"), cache=cache)


def test_a_recipe_of_others_media_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not a recipe"):
        third_party.third_party_media(recipe=tmp_path / "none.toml", cache=tmp_path)


# The stand-in for a Windows medium ----------------------------------------------------------------------


@pytest.fixture
def standin_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in beside a probe of tiny packages, of which it takes other files than it does really."""
    made = folder.parent / "standin"
    shutil.copytree(standin.RECIPE, made)
    folder.rename(folder.parent / "probe")
    monkeypatch.setattr(
        standin, "FILES", {"tools": {"partition": "busybox", "mbr": "ldlinux.c32", "disk_grub": "gcdx64.efi"}}
    )
    monkeypatch.setattr(standin, "MODULES", ("libata",))
    return made


def test_a_stand_in_has_what_it_boots_and_what_it_puts_on_a_disk(
    archive: Archive, standin_folder: Path, cache: Path
) -> None:
    iso = standin.ensure(folder=standin_folder, cache=cache)
    assert standin.is_standin(iso)
    with opened(iso) as (_, read):
        initrd = read("/boot/initrd")
        for file in standin.OWN:
            assert (standin_folder / file).read_bytes() in initrd
        assert b"step_lease() {" in initrd, "the probe's functions"
        assert initrd.count(b'*) "step_$1" ;;') == 1, "and not what the probe does with them"
        assert b"vmlinuz" in read("/isolinux/isolinux.cfg")
        assert b"standin=setup" in read("/boot/grub/grub.cfg")
        assert b"standin=installed" in read("/sources/grub.cfg")
        assert read("/sources/bios.img").startswith(b"busy")
        assert read("/sources/mbr.bin") == b"ld"
        assert len(read("/sources/setup.bin")) > LOADER_BYTES
    archive.files.clear()
    assert standin.ensure(folder=standin_folder, cache=cache) == iso


@pytest.mark.parametrize("file", ["setup", "disk/grub.cfg", "../probe/init"])
def test_whatever_is_changed_gives_another_stand_in(
    archive: Archive, standin_folder: Path, cache: Path, file: str
) -> None:
    before = standin.ensure(folder=standin_folder, cache=cache)
    with (standin_folder / file).open("a") as changed:
        changed.write("# changed\n")
    assert standin.ensure(folder=standin_folder, cache=cache) != before


def test_an_iso_becomes_what_a_partition_boots() -> None:
    loader = bytes(range(256)) * 16
    iso = formats.iso(
        "SYSTEM", {"efi.img": bytes(2048), "i/isolinux.bin": loader}, bios="i/isolinux.bin", efi="efi.img"
    )
    made = standin.in_partition(iso, b"code" * 108)
    assert len(made) == len(iso)
    assert made[512:] == iso[512:]
    assert made[:432] == b"code" * 108
    assert made[510:512] == b"\x55\xaa"
    (sector,) = struct.unpack_from("<Q", made, 432)
    assert made[sector * 512 :].startswith(loader[:8]), "where isolinux.bin is"
