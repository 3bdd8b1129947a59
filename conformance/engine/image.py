"""The image under test: built from its folder, on a base image that the engine has, can pull, or that is made here."""

import contextlib
import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
from docker.errors import APIError, DockerException, ImageNotFound

from conformance.engine import base_image, labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.client import Engine
from conformance.engine.engine_messages import Progress, messages, tail
from conformance.errors import BadOption, EngineError, HarnessError
from conformance.util import paths, signals

TAG = "libvirt-conformance:latest"

KNOWN = (TAG, base_image.BASE, base_image.MADE_BASE)
"""The project's images, best equipped first."""

INPUTS_LABEL = "org.libvirt-conformance.inputs"
BASE_LABEL = "org.libvirt-conformance.base"

BUILD_SILENCE_SECONDS = 600.0

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FAILED = "failed: "


@dataclass(frozen=True)
class ImageInfo:
    """An image that the engine has."""

    tag: str
    id: str
    base: str
    """The base image and where it came from."""
    inputs_hash: str
    """Hash of files, base and build parameters; empty for an image of others."""
    source: str = ""
    """Hash of the folder and the build parameters alone, the same wherever it is built; empty if not known."""


def ensure_image(
    engine: Engine,
    progress: Progress,
    *,
    base: str | None = None,
    tag: str = TAG,
    buildargs: Mapping[str, str] | None = None,
    folder: Path = paths.IMAGE,
    log: Path | None = None,
) -> ImageInfo:
    """Return the image under this tag, built anew only if something that goes into it has changed.

    Args:
        engine: where the image is needed.
        progress: receives one line for each step.
        base: the base image; by default :data:`base_image.BASE`, or one made by mmdebstrap where that cannot be had.
        tag: the name of the result.
        buildargs: build parameters beside BASE_IMAGE.
        folder: the build context.
        log: the file for the build's whole output, by default in the cache.

    Raises:
        HarnessError: there is no base, or the build failed; with its last lines.
        EngineError: the engine refused or fell silent.
    """
    try:
        base = base or base_image.default(engine, progress)
        described, base_id = base_image.describe(base_image.get(engine, base, progress), base)
        arguments = {**(buildargs or {}), "BASE_IMAGE": base}
        wanted = inputs_hash(folder, base_id, arguments)
        source = inputs_hash(folder, "", buildargs or {})
        existing = find(engine, tag)
        if existing is not None and existing.inputs_hash == wanted:
            progress(f"image {tag} is up to date")
            return dataclasses.replace(existing, source=source)
        progress(f"building {tag} on {described}")
        labels = {INPUTS_LABEL: wanted, BASE_LABEL: described}
        _build(engine, progress, folder, tag, arguments, labels, log or paths.cache() / "image-build.log")
        built = find(engine, tag)
        if existing is not None and built is not None and existing.id != built.id:
            with contextlib.suppress(APIError):  # a container or another tag may still need what the tag named before
                engine.client.images.remove(existing.id, noprune=True)
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine failed while it built {tag}: {error}", "read the engine's log") from error
    if built is None:
        raise HarnessError(
            f"the build of {tag} succeeded, but the engine does not have the image",
            "see whether the engine's disk is full (docker system df)",
        )
    return dataclasses.replace(built, source=source)


def find(engine: Engine, tag: str) -> ImageInfo | None:
    """Return the image that the engine has under this tag; None if there is none."""
    try:
        image = engine.client.images.get(tag)
    except ImageNotFound:
        return None
    labels = image.labels or {}
    return ImageInfo(tag, str(image.id), labels.get(BASE_LABEL, "unknown"), labels.get(INPUTS_LABEL, ""))


def require(engine: Engine, tag: str) -> ImageInfo:
    """Return the image that the engine has under this tag.

    Raises:
        BadOption: there is none.
    """
    found = find(engine, tag)
    if found is None:
        raise BadOption(f"the engine has no image {tag!r}", f"pull it (docker pull {tag}) or build it, and run again")
    return found


def inputs_hash(folder: Path, base_id: str, buildargs: Mapping[str, str]) -> str:
    """Return a hash of the folder, base and build parameters; the state of package mirrors does not count.

    Raises:
        HarnessError: there is no Dockerfile.
    """
    if not (folder / "Dockerfile").is_file():
        raise HarnessError(f"{folder} has no Dockerfile", "restore the folder: the checkout may be incomplete")
    sha = hashlib.sha256(json.dumps([base_id, sorted(buildargs.items())]).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            executable = bool(path.stat().st_mode & 0o100)
            sha.update(json.dumps([path.relative_to(folder).as_posix(), executable, content]).encode())
    return sha.hexdigest()


@contextlib.contextmanager
def layer(
    engine: Engine,
    progress: Progress,
    under: str,
    instructions: str,
    run: str,
    files: Mapping[str, tuple[str, int]] = MappingProxyType({}),
) -> Iterator[str]:
    """Build an image on another one for the length of a block, and remove it afterwards.

    Args:
        engine: where.
        progress: receives one line for each step.
        under: the other image's id.
        instructions: of a Dockerfile.
        run: the run's id, for name and label.
        files: files that the layer puts in place before the instructions: by path in the image, text and mode.

    Yields:
        The image's id.

    Raises:
        HarnessError: the build failed; with its last lines.
        EngineError: the engine refused or fell silent.
    """
    tag = names.new(run, "layer")
    with engine_errors(), tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        folder = Path(scratch)
        tree = folder / "tree"
        for path, (text, mode) in files.items():
            place = tree / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            place.chmod(mode)
        copy = f"COPY {tree.name}/ /\n" if files else ""
        (folder / "Dockerfile").write_text(f"FROM {under}\n{copy}{instructions}\n", encoding="utf-8")
        try:
            _build(engine, progress, folder, tag, {}, {labels.RUN: run}, paths.cache() / "layer-build.log")
            yield str(engine.client.images.get(tag).id)
        finally:
            with signals.deferred(), contextlib.suppress(ImageNotFound):
                # Down to the image below, but for that one, which may have lost its tag to a newer build.
                engine.client.images.remove(tag, force=True, noprune=not engine.client.images.get(under).tags)


# ------------------------------------------------------------------------------------------------------- build


def _build(
    engine: Engine,
    progress: Progress,
    folder: Path,
    tag: str,
    buildargs: Mapping[str, str],
    labels: Mapping[str, str],
    log: Path,
) -> None:
    lines: list[str] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    call = lambda: engine.client.api.build(  # noqa: E731
        path=str(folder),
        tag=tag,
        buildargs=dict(buildargs),
        labels=dict(labels),
        rm=True,
        forcerm=True,
        decode=True,
    )
    with log.open("w", encoding="utf-8") as file:
        for line in _lines(messages(call, BUILD_SILENCE_SECONDS)):
            lines.append(line)
            print(line, file=file, flush=True)
            if line.startswith("Step "):
                progress(f"{tag}: {line}")
            if line.startswith(_FAILED):
                raise HarnessError(
                    f"the build of {tag} failed:\n{tail(lines)}", f"{_build_remedy(lines)}; whole output: {log}"
                )


def _lines(events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield a build's output in whole lines without colour: an event can hold a part of a line, or several."""
    rest = ""
    for event in events:
        rest += _COLOUR.sub("", str(event.get("stream") or ""))
        if "status" in event:
            rest += f"{event['status']}\n"
        if "error" in event:
            rest += f"\n{_FAILED}{event['error']}\n"
        *whole, rest = rest.split("\n")
        yield from (line.rstrip() for line in whole if line.strip())


def _build_remedy(lines: list[str]) -> str:
    text = "\n".join(lines[-40:]).lower()
    if "no space left" in text:
        return "free space on the engine's disk (docker system prune)"
    if any(sign in text for sign in ("could not resolve", "temporary failure", "unable to fetch", "failed to fetch")):
        return "containers of this engine do not reach the package mirror: correct its DNS and proxy settings"
    return "read the failing step above"
