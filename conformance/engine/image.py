"""The image under test: built from its folder, on a base image that the engine has, can pull, or that is made here."""

import contextlib
import dataclasses
import hashlib
import json
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import parse_repository_tag

from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.client import Engine
from conformance.errors import EngineError, HarnessError
from conformance.util import apt, paths, signals

Progress = Callable[[str], None]

TAG = "libvirt-conformance:latest"
SUITE = "trixie"
BASE = f"debian:{SUITE}-slim"
MADE_BASE = f"libvirt-conformance-base:{SUITE}"
"""The base where no registry can be reached."""

KNOWN = (TAG, BASE, MADE_BASE)
"""The project's images, best equipped first."""

INPUTS_LABEL = "org.libvirt-conformance.inputs"
BASE_LABEL = "org.libvirt-conformance.base"
MADE_LABEL = "org.libvirt-conformance.made"

PULL_SILENCE_SECONDS = 30.0
BUILD_SILENCE_SECONDS = 600.0
MAKE_SECONDS = 900.0

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
        base: the base image; by default :data:`BASE`, or one made by mmdebstrap where that cannot be had.
        tag: the name of the result.
        buildargs: build parameters beside BASE_IMAGE.
        folder: the build context.
        log: the file for the build's whole output, by default in the cache.

    Raises:
        HarnessError: there is no base, or the build failed; with its last lines.
        EngineError: the engine refused or fell silent.
    """
    try:
        base = base or _default_base(engine, progress)
        described, base_id = _describe(_get(engine, base, progress), base)
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
def layer(engine: Engine, progress: Progress, under: str, instructions: str, run: str) -> Iterator[str]:
    """Build an image on another one for the length of a block, and remove it afterwards.

    Args:
        engine: where.
        progress: receives one line for each step.
        under: the other image's id.
        instructions: of a Dockerfile.
        run: the run's id, for name and label.

    Yields:
        The image's id.

    Raises:
        HarnessError: the build failed; with its last lines.
        EngineError: the engine refused or fell silent.
    """
    tag = names.new(run, "layer")
    with engine_errors(), tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        folder = Path(scratch)
        (folder / "Dockerfile").write_text(f"FROM {under}\n{instructions}\n", encoding="utf-8")
        try:
            _build(engine, progress, folder, tag, {}, {labels.RUN: run}, paths.cache() / "layer-build.log")
            yield str(engine.client.images.get(tag).id)
        finally:
            with signals.deferred(), contextlib.suppress(ImageNotFound):
                # Down to the image below, but for that one, which may have lost its tag to a newer build.
                engine.client.images.remove(tag, force=True, noprune=not engine.client.images.get(under).tags)


# -------------------------------------------------------------------------------------------------------- base


def _default_base(engine: Engine, progress: Progress) -> str:
    """Return the base image's tag: one that the engine has or can pull, else one that is made here."""
    for tag in (BASE, MADE_BASE):
        if find(engine, tag) is not None:
            return tag
    try:
        _pull(engine, BASE, progress)
    except EngineError as error:
        progress(f"{error.message}: making {MADE_BASE} from Debian packages instead")
        _make_base(engine, progress)
        return MADE_BASE
    return BASE


def _get(engine: Engine, tag: str, progress: Progress) -> Any:
    try:
        return engine.client.images.get(tag)
    except ImageNotFound:
        _pull(engine, tag, progress)
        return engine.client.images.get(tag)


def _describe(image: Any, tag: str) -> tuple[str, str]:
    """Return the base's description for people, and its ID."""
    labels = image.labels or {}
    identity = str(image.id)
    return f"{tag} ({labels.get(MADE_LABEL) or identity.removeprefix('sha256:')[:12]})", identity


def _pull(engine: Engine, tag: str, progress: Progress) -> None:
    progress(f"pulling {tag}")
    repository, version = parse_repository_tag(tag)
    call = lambda: engine.client.api.pull(repository, version or "latest", stream=True, decode=True)  # noqa: E731
    try:
        for event in _events(call, PULL_SILENCE_SECONDS):
            if "error" in event:
                raise EngineError(f"{tag} cannot be pulled ({event['error']})", "let the engine reach a registry")
    except (DockerException, requests.RequestException) as error:
        reason = getattr(error, "explanation", None) or error
        raise EngineError(f"{tag} cannot be pulled ({reason})", "let the engine reach a registry") from error


def _make_base(engine: Engine, progress: Progress) -> None:
    """Make :data:`MADE_BASE` with mmdebstrap and import it into the engine.

    Raises:
        HarnessError: mmdebstrap is missing or failed.
    """
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", SUITE]
    if shutil.which(command[0]) is None:
        raise HarnessError(
            f"no base image: {BASE} cannot be pulled, and mmdebstrap is not installed to make one",
            f"sudo apt-get install mmdebstrap, or load {BASE} into the engine (docker load)",
        )
    with tempfile.TemporaryDirectory(dir=paths.cache(), prefix="base-") as folder:
        archive = Path(folder) / "base.tar"
        output = _run([*command, str(archive), *apt.sources(SUITE)], seconds=MAKE_SECONDS)
        version = _run(["mmdebstrap", "--version"], seconds=30).strip()
        progress(f"importing {MADE_BASE} ({archive.stat().st_size / 1e6:.0f} MB)")
        repository, suite = parse_repository_tag(MADE_BASE)
        answer = engine.client.api.import_image_from_file(
            str(archive),
            repository=repository,
            tag=suite,
            changes=[f'LABEL {MADE_LABEL}="{version} {" ".join(command[1:])}"', 'CMD ["bash"]'],
        )
    if find(engine, MADE_BASE) is None:
        raise HarnessError(
            f"the engine did not import {MADE_BASE}: {answer}\n{output[-500:]}",
            "see whether the engine's disk is full (docker system df)",
        )


def _run(command: list[str], *, seconds: float) -> str:
    """Run a program to its end; return what it said.

    Raises:
        HarnessError: it failed, or did not end in time.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise HarnessError(
            f"{command[0]} did not end within {seconds:g} s",
            "run again when the package mirror is faster, or load the base image into the engine (docker load)",
        ) from error
    finally:
        if process.poll() is None:
            process.terminate()  # so that it removes its temporary folder
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    if process.returncode != 0:
        raise HarnessError(
            f"{command[0]} failed with status {process.returncode}:\n{_tail(output.splitlines())}",
            "see whether this machine reaches its package mirror (sudo apt-get update);"
            " users other than root also need user namespaces and the package uidmap",
        )
    return output


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
        for line in _lines(_events(call, BUILD_SILENCE_SECONDS)):
            lines.append(line)
            print(line, file=file, flush=True)
            if line.startswith("Step "):
                progress(f"{tag}: {line}")
            if line.startswith(_FAILED):
                raise HarnessError(
                    f"the build of {tag} failed:\n{_tail(lines)}", f"{_build_remedy(lines)}; whole output: {log}"
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


def _events(call: Callable[[], Iterator[dict[str, Any]]], silence: float) -> Iterator[dict[str, Any]]:
    """Yield an engine's messages; docker-py sets no deadline for them.

    Raises:
        EngineError: nothing came for ``silence`` seconds.
    """
    messages: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()

    def listen() -> None:
        try:
            for message in call():
                messages.put(message)
            messages.put(None)
        except BaseException as error:
            messages.put(error)  # raised where the messages are read

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            message = messages.get(timeout=silence)
        except queue.Empty:
            raise EngineError(
                f"the engine sent nothing for {silence:g} s", "read the engine's log, or restart it"
            ) from None
        if message is None:
            return
        if isinstance(message, BaseException):
            raise message
        yield message


def _tail(lines: list[str], count: int = 12) -> str:
    return "\n".join(f"    {line}" for line in lines[-count:])
