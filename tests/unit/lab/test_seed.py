"""Images as an engine keeps them: laid out from an archive, and put together on a file system that is looked into."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import LabError
from conformance.lab import DEFINITIONS, seed

STORE = "store/image/overlay2"

LOWER = {
    "etc/": None,
    "etc/kept": b"kept",
    "etc/removed": b"removed",
    "srv/": None,
    "srv/a": b"a",
    "srv/.hidden": b"h",
    "srv/sub/": None,
    "srv/sub/deep": b"deep",
    "srv/sub/deeper/": None,
    "srv/sub/deeper/x": b"x",
    "srv/gone/": None,
    "srv/gone/y": b"y",
}
UPPER = {
    "etc/.wh.removed": b"",
    "srv/": None,
    "srv/.wh..wh..opq": b"",
    "srv/new": b"new",
    "srv/sub/": None,
    "srv/sub/own": b"own",
}


def tar(files: Mapping[str, bytes | None]) -> bytes:
    """Write an archive; a folder's name ends with a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(path: Path, images: Mapping[str, Sequence[bytes]], *, oci: bool) -> dict[str, str]:
    """Write what ``docker save`` does, before or since Docker 25; return the images' ids by their tags."""
    manifest: list[dict[str, Any]] = []
    files: dict[str, bytes | None] = {}
    ids = {}
    for tag, layers in images.items():
        diffs = [f"sha256:{digest(layer)}" for layer in layers]
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diffs}, "tag": tag}).encode()
        name = f"blobs/sha256/{digest(config)}" if oci else f"{digest(config)}.json"
        places = [f"blobs/sha256/{digest(layer)}" if oci else f"{digest(layer)}/layer.tar" for layer in layers]
        files |= {name: config} | dict(zip(places, layers, strict=True))
        tags = [tag] if ":" in tag else None  # what has no name, a step of a build, has null
        manifest.append({"Config": name, "RepoTags": tags, "Layers": places})
        ids[tag] = f"sha256:{digest(config)}"
    files["manifest.json"] = json.dumps(manifest).encode()
    path.write_bytes(tar(files))
    return ids


def content(path: Path) -> str:
    return path.read_text()


@pytest.fixture(params=[False, True], ids=["layer.tar", "blobs"])
def laid_out(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str], list[bytes]]:
    """Two images of which one is a step of the other, laid out."""
    layers = [tar(LOWER), tar(UPPER), tar({"top": b"top"})]
    ids = saved(
        tmp_path / "images.tar",
        {"registry.example:5000/base:1": layers[:1], "step": layers[:2], "image:latest": layers},
        oci=request.param,
    )
    chains = [[ids["registry.example:5000/base:1"]], [ids["step"], ids["image:latest"]]]
    seed.lay_out(tmp_path / "images.tar", chains, tmp_path, tmp_path / "log")
    return tmp_path, ids, layers


Laid = tuple[Path, dict[str, str], list[bytes]]


def test_images_have_their_names_and_their_steps(laid_out: Laid) -> None:
    work, ids, _ = laid_out
    assert json.loads(content(work / STORE / "repositories.json")) == {
        "Repositories": {
            "registry.example:5000/base": {"registry.example:5000/base:1": ids["registry.example:5000/base:1"]},
            "image": {"image:latest": ids["image:latest"]},
        }
    }
    for tag, image in ids.items():
        config = (work / STORE / "imagedb/content/sha256" / image.removeprefix("sha256:")).read_bytes()
        assert digest(config) == image.removeprefix("sha256:")
        assert json.loads(config)["tag"] == tag
    parents = {path.parent.name: content(path) for path in (work / STORE / "imagedb/metadata/sha256").rglob("parent")}
    assert parents == {ids["image:latest"].removeprefix("sha256:"): ids["step"]}


def test_layers_are_chained_and_each_is_there_once(laid_out: Laid) -> None:
    work, _, layers = laid_out
    diffs = [f"sha256:{digest(layer)}" for layer in layers]
    first = diffs[0].removeprefix("sha256:")
    second = digest(f"{diffs[0]} {diffs[1]}".encode())
    third = digest(f"sha256:{second} {diffs[2]}".encode())
    chains = {path.name: path for path in (work / STORE / "layerdb/sha256").iterdir()}
    assert set(chains) == {first, second, third}
    assert [content(chains[chain] / "diff") for chain in (first, second, third)] == diffs
    assert not (chains[first] / "parent").exists()
    assert [content(chains[chain] / "parent") for chain in (second, third)] == [f"sha256:{first}", f"sha256:{second}"]
    assert content(chains[first] / "size") == str(sum(len(data or b"") for data in LOWER.values()))

    folders = [content(chains[chain] / "cache-id") for chain in (first, second, third)]
    rows = [line.split("\t") for line in content(work / "layers.tsv").splitlines()]
    assert [folder for folder, _ in rows] == folders
    assert [Path(archive).read_bytes() for _, archive in rows] == layers

    links = [content(work / "store/overlay2" / folder / "link") for folder in folders]
    assert all(re.fullmatch("[A-Z2-7]{26}", link) for link in links)
    assert [str((work / "store/overlay2/l" / link).readlink()) for link in links] == [
        f"../{folder}/diff" for folder in folders
    ]
    lowers = [work / "store/overlay2" / folder / "lower" for folder in folders]
    assert not lowers[0].exists()
    assert content(lowers[1]) == f"l/{links[0]}"
    assert content(lowers[2]) == f"l/{links[1]}:l/{links[0]}"
    assert [(lower.parent / "work").is_dir() for lower in lowers] == [False, True, True]


@pytest.mark.parametrize("archive", [b"", b"no archive", tar({"other": b""}), tar({"manifest.json": b"half a li"})])
def test_what_is_no_archive_of_images(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "images.tar").write_bytes(archive)
    with pytest.raises(LabError):
        seed.lay_out(tmp_path / "images.tar", [], tmp_path, tmp_path / "log")


@pytest.mark.parametrize("lost", ["config", "layer"])
def test_an_archive_that_lacks_something(tmp_path: Path, lost: str) -> None:
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["l/layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode()}
    if lost != "config":
        files["c.json"] = json.dumps({"rootfs": {"diff_ids": ["sha256:0"]}}).encode()
    (tmp_path / "images.tar").write_bytes(tar(files))
    with pytest.raises(LabError, match="cannot write the engine's images"):
        seed.lay_out(tmp_path / "images.tar", [], tmp_path, tmp_path / "log")


# ------------------------------------------------------------------------------------------------ on a file system


TOOLS = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

needs_tools = pytest.mark.skipif(
    not all(shutil.which(tool, path=TOOLS) for tool in ("mke2fs", "debugfs")), reason="e2fsprogs is not installed"
)
as_root = pytest.mark.skipif(
    os.geteuid() != 0 and shutil.which("fakeroot") is None, reason="neither root nor fakeroot to make devices by"
)

Ask = Callable[[str], str]


@pytest.fixture
def assembled(laid_out: Laid) -> Ask:
    """Ask debugfs about the disk that the images are put on."""
    work, _, _ = laid_out
    root = {"boot/": None, "boot/vmlinuz-1": b"kernel", "boot/initrd.img-1": b"initramfs", "dev/": None, "var/": None}
    (work / "root.tar").write_bytes(tar({f"./{name}": data for name, data in {**root, "dev/null": b""}.items()}))
    fake = [] if os.geteuid() == 0 else ["fakeroot"]
    subprocess.run(
        [*fake, DEFINITIONS / "assemble", work, "64M"],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PATH": TOOLS},
    )

    def ask(order: str) -> str:
        return subprocess.run(
            ["debugfs", "-R", order, work / "disk.raw"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            env={**os.environ, "PATH": TOOLS},
        ).stdout

    return ask


def listed(ask: Ask, folder: str) -> dict[str, str]:
    """Return the type of each file of a folder of the disk, as octal digits of its mode."""
    rows = [line.split("/") for line in ask(f"ls -p {folder}").splitlines() if line]
    return {row[5]: row[2][:-4] for row in rows if row[5] not in (".", "..", "lost+found")}


FILE, FOLDER, DEVICE = "10", "04", "02"


@needs_tools
@as_root
def test_what_a_layer_removes_is_hidden_by_devices(laid_out: Laid, assembled: Ask) -> None:
    work, _, _ = laid_out
    rows = [line.split("\t")[0] for line in content(work / "layers.tsv").splitlines()]
    lower, upper, top = (f"/var/lib/docker/overlay2/{folder}/diff" for folder in rows)

    assert listed(assembled, f"{lower}/srv") == {"a": FILE, ".hidden": FILE, "sub": FOLDER, "gone": FOLDER}
    assert listed(assembled, f"{upper}/etc") == {"removed": DEVICE}
    assert "Device major/minor number: 00:00" in assembled(f"stat {upper}/etc/removed")
    # An opaque folder: of its own it has new and sub, and of the lower one's nothing shows through, at any depth.
    assert listed(assembled, f"{upper}/srv") == {
        "new": FILE,
        "sub": FOLDER,
        "a": DEVICE,
        ".hidden": DEVICE,
        "gone": DEVICE,
    }
    assert listed(assembled, f"{upper}/srv/sub") == {"own": FILE, "deep": DEVICE, "deeper": DEVICE}
    assert listed(assembled, top) == {"top": FILE}
    assert assembled(f"cat {upper}/srv/new") == "new"


@needs_tools
@as_root
def test_the_disk_has_the_host_and_the_store_of_its_engine(laid_out: Laid, assembled: Ask) -> None:
    work, ids, _ = laid_out
    assert ((work / "vmlinuz").read_bytes(), (work / "initrd").read_bytes()) == (b"kernel", b"initramfs")
    assert listed(assembled, "/dev") == {}
    docker = "/var/lib/docker/image/overlay2"
    assert ids["image:latest"] in assembled(f"cat {docker}/repositories.json")
    assert re.search(r"User:\s+0\s+Group:\s+0\b", assembled(f"stat {docker}/repositories.json"))
    assert "has_journal" not in assembled("features")
    assert (work / "disk.raw").stat().st_size == 64 << 20
