"""Writes container images onto a lab's disk, in the layout of Docker's own storage.

An emulated engine needs more than a minute to load an image of 500 MB; from its disk the image is there at once. The
steps of the build are included, so that the build cache has them: a later change of the image rebuilds only its steps.

The layout is that of Docker's storage driver overlay2 (moby: image/fs.go, layer/filestore.go,
daemon/graphdriver/overlay2), the same from 17.03 on; engines with containerd's image store do not read it.
"""

import base64
import hashlib
import json
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import docker
import docker.errors

from conformance.engine.api_errors import engine_errors
from conformance.errors import LabError
from conformance.util import process

SAVE_SECONDS = 60
"""For each piece of what an engine saves."""


def save(client: docker.DockerClient, tags: Sequence[str], archive: Path) -> list[list[str]]:
    """Save images with the steps that made them, as far as the engine has them.

    Args:
        client: the engine that has the images.
        tags: the images; missing ones are skipped.
        archive: the file to write, as ``docker save`` does.

    Returns:
        The ids of each image's steps, from the first to the image itself.

    Raises:
        EngineError: the engine refused, or is gone.
    """
    with engine_errors():
        chains = [chain for tag in tags if (chain := _chain(client, tag))]
        wanted = [*tags_of(client, tags), *{image for chain in chains for image in chain[:-1]}]
        if wanted:
            # docker-py saves one image a call, and an archive of its own would repeat the layers.
            answer = client.api.get(
                f"{client.api.base_url}/v{client.api.api_version}/images/get",
                params={"names": wanted},
                stream=True,
                timeout=SAVE_SECONDS,
            )
            answer.raise_for_status()
            with archive.open("wb") as file:
                for block in answer.iter_content(1 << 20):
                    file.write(block)
    return chains


def tags_of(client: docker.DockerClient, tags: Sequence[str]) -> list[str]:
    """Return those tags that the engine has."""
    known = {tag for image in client.api.images() for tag in image.get("RepoTags") or ()}
    return [tag for tag in tags if tag in known]


def _chain(client: docker.DockerClient, tag: str) -> list[str]:
    try:
        image = dict(client.images.get(tag).attrs)
    except docker.errors.ImageNotFound:
        return []
    chain = [str(image["Id"])]
    while parent := image.get("Parent"):
        image = dict(client.images.get(parent).attrs)
        chain.insert(0, str(image["Id"]))
    return chain


def lay_out(archive: Path, chains: Sequence[Sequence[str]], work: Path, log: Path) -> None:
    """Write an archive's images into ``work`` for ``lab/assemble``.

    Args:
        archive: an archive of ``docker save``.
        chains: as :func:`save` returned them.
        work: gets ``store/``, ``saved/`` and ``layers.tsv``.
        log: gets the output of programs.

    Raises:
        LabError: the archive is damaged, or the disk is full.
    """
    try:
        _lay_out(archive, chains, work, log)
    except (OSError, ValueError, LookupError, tarfile.TarError) as error:
        raise LabError(
            f"cannot write the engine's images onto the lab's disk: {error!r}", process.remedy(log)
        ) from error


def _lay_out(archive: Path, chains: Sequence[Sequence[str]], work: Path, log: Path) -> None:
    store, unpacked = work / "store", work / "saved"
    unpacked.mkdir()
    process.run(["tar", "--extract", f"--file={archive}", f"--directory={unpacked}"], log=log, seconds=300)
    manifest = json.loads((unpacked / "manifest.json").read_bytes())
    repositories: dict[str, dict[str, str]] = {}
    rows: dict[str, Path] = {}
    for entry in manifest:
        config = (unpacked / entry["Config"]).read_bytes()
        image = hashlib.sha256(config).hexdigest()
        _write(store / "image/overlay2/imagedb/content/sha256" / image, config)
        for tag in entry["RepoTags"] or ():
            name, _, _ = tag.rpartition(":")
            repositories.setdefault(name, {})[tag] = f"sha256:{image}"
        rows |= _layers(store, json.loads(config), [unpacked / one for one in entry["Layers"]])
    for chain in chains:
        for parent, child in pairwise(chain):
            place = store / "image/overlay2/imagedb/metadata/sha256" / child.removeprefix("sha256:")
            _write(place / "parent", parent.encode())
    _write(store / "image/overlay2/repositories.json", json.dumps({"Repositories": repositories}).encode())
    (work / "layers.tsv").write_text("".join(f"{name}\t{path}\n" for name, path in rows.items()), encoding="utf-8")


def _layers(store: Path, config: dict[str, Any], archives: Sequence[Path]) -> dict[str, Path]:
    """Describe an image's layers to the engine; returns each layer's archive by its folder in the store."""
    rows: dict[str, Path] = {}
    parent = ""
    lower: list[str] = []
    for diff, archive in zip(config["rootfs"]["diff_ids"], archives, strict=True):
        # OCI image specification, layer ChainID: what lies below counts.
        chain = diff if not parent else f"sha256:{hashlib.sha256(f'{parent} {diff}'.encode()).hexdigest()}"
        folder = hashlib.sha256(f"lab {chain}".encode()).hexdigest()
        link = base64.b32encode(bytes.fromhex(folder))[:26].decode()
        described = store / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:")
        if not described.exists():
            _write(described / "diff", diff.encode())
            _write(described / "cache-id", folder.encode())
            _write(described / "size", str(_content(archive)).encode())
            if parent:
                _write(described / "parent", parent.encode())
            _write(store / "overlay2" / folder / "link", link.encode())
            _write(store / "overlay2" / folder / "committed", b"")
            if lower:
                _write(store / "overlay2" / folder / "lower", ":".join(lower).encode())
                (store / "overlay2" / folder / "work").mkdir()
            links = store / "overlay2" / "l"
            links.mkdir(exist_ok=True)
            (links / link).symlink_to(f"../{folder}/diff")
        rows[folder] = archive.resolve()
        lower = [f"l/{link}", *lower]
        parent = chain
    return rows


def _content(archive: Path) -> int:
    with tarfile.open(archive) as tar:
        return sum(member.size for member in tar if member.isreg())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
