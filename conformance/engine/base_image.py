"""The base of the image under test: one that the engine has or can pull, else one made from Debian packages."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException, ImageNotFound
from docker.utils import parse_repository_tag

from conformance.engine.client import Engine
from conformance.engine.engine_messages import Progress, messages, tail
from conformance.errors import EngineError, HarnessError
from conformance.util import apt, paths

SUITE = "trixie"
"""The release of Debian that the image is built on."""

BASE = f"debian:{SUITE}-slim"

MADE = "libvirt-conformance-base"
"""The repository of bases that are made here, where no registry can be reached."""

MADE_BASE = f"{MADE}:{SUITE}"

MADE_LABEL = "org.libvirt-conformance.made"
PULL_SILENCE_SECONDS = 30.0
MAKE_SECONDS = 900.0


def default(engine: Engine, progress: Progress, suite: str = SUITE) -> str:
    """Return the base image's tag: one that the engine has or can pull, else one that is made here.

    Args:
        engine: where the image is needed.
        progress: receives one line for each step.
        suite: the release of Debian.

    Raises:
        HarnessError: none can be pulled or made.
    """
    official, made = f"debian:{suite}-slim", f"{MADE}:{suite}"
    for tag in (official, made):
        if _has(engine, tag):
            return tag
    try:
        _pull(engine, official, progress)
    except EngineError as error:
        progress(f"{error.message}: making {made} from Debian packages instead")
        _make_base(engine, progress, suite)
        return made
    return official


def get(engine: Engine, tag: str, progress: Progress) -> Any:
    """Return an image by its tag, after pulling it where the engine has none."""
    try:
        return engine.client.images.get(tag)
    except ImageNotFound:
        _pull(engine, tag, progress)
        return engine.client.images.get(tag)


def describe(image: Any, tag: str) -> tuple[str, str]:
    """Return the base's description for people, and its ID."""
    labels = image.labels or {}
    identity = str(image.id)
    return f"{tag} ({labels.get(MADE_LABEL) or identity.removeprefix('sha256:')[:12]})", identity


def _pull(engine: Engine, tag: str, progress: Progress) -> None:
    progress(f"pulling {tag}")
    repository, version = parse_repository_tag(tag)
    call = lambda: engine.client.api.pull(repository, version or "latest", stream=True, decode=True)  # noqa: E731
    try:
        for event in messages(call, PULL_SILENCE_SECONDS):
            if "error" in event:
                raise EngineError(f"{tag} cannot be pulled ({event['error']})", "let the engine reach a registry")
    except (DockerException, requests.RequestException) as error:
        reason = getattr(error, "explanation", None) or error
        raise EngineError(f"{tag} cannot be pulled ({reason})", "let the engine reach a registry") from error


def _make_base(engine: Engine, progress: Progress, suite: str) -> None:
    """Make a base with mmdebstrap and import it into the engine.

    Raises:
        HarnessError: mmdebstrap is missing or failed.
    """
    # A mirror that stands still is no danger here; the option stays in the base, for the packages that follow.
    options = () if suite == SUITE else ('--aptopt=Acquire::Check-Valid-Until "false"',)
    command = ["mmdebstrap", "--variant=minbase", "--format=tar", *options, suite]
    if shutil.which(command[0]) is None:
        raise HarnessError(
            f"no base image: debian:{suite}-slim cannot be pulled, and mmdebstrap is not installed to make one",
            f"sudo apt-get install mmdebstrap, or load debian:{suite}-slim into the engine (docker load)",
        )
    with tempfile.TemporaryDirectory(dir=paths.cache(), prefix="base-") as folder:
        archive = Path(folder) / "base.tar"
        output = _run([*command, str(archive), *apt.sources(suite)], seconds=MAKE_SECONDS)
        version = _run(["mmdebstrap", "--version"], seconds=30).strip()
        tag = f"{MADE}:{suite}"
        progress(f"importing {tag} ({archive.stat().st_size / 1e6:.0f} MB)")
        answer = engine.client.api.import_image_from_file(
            str(archive),
            repository=MADE,
            tag=suite,
            changes=[f'LABEL {MADE_LABEL}="{version} {" ".join(command[1:])}"', 'CMD ["bash"]'],
        )
    if not _has(engine, tag):
        raise HarnessError(
            f"the engine did not import {tag}: {answer}\n{output[-500:]}",
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
            f"{command[0]} failed with status {process.returncode}:\n{tail(output.splitlines())}",
            "see whether this machine reaches its package mirror (sudo apt-get update);"
            " users other than root also need user namespaces and the package uidmap",
        )
    return output


def _has(engine: Engine, tag: str) -> bool:
    try:
        engine.client.images.get(tag)
    except ImageNotFound:
        return False
    return True
