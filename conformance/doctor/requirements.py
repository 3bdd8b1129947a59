"""Findings about the requirements of a run: operating system, rights of users, base image, disk space, packages."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace

import docker.errors
import requests

from conformance.doctor.finding import Finding, Inspection
from conformance.engine.base_image import BASE, SUITE
from conformance.engine.client import Engine
from conformance.errors import HarnessError
from conformance.util import apt, namespaces, paths
from conformance.util.wait import DeadlineExpired, within

REGISTRY_SECONDS = 10

FREE_BYTES = 4 * 2**30
"""./run requires this much free disk space."""

TESTED_RELEASES = ("12", "13")
"""Releases of Debian on which the whole project is tested."""

UNTESTED_ON_UBUNTU = (
    "untested on Ubuntu: the names of its packages, boot media and base image from Debian's own archive, its AppArmor"
    " profiles and its restriction of user namespaces"
)


def all_of(inspection: Inspection) -> Iterator[Finding]:
    """Yield the findings in reading order."""
    yield _system()
    yield _user_namespaces()
    yield _base(inspection)
    yield _disk()
    yield from _packages(inspection)


def _system() -> Finding:
    found = Finding("system", "Operating system of this machine", "OK", "")
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = release.get("PRETTY_NAME") or release.get("NAME") or platform.system()
    if release.get("ID") == "debian" and release.get("VERSION_ID") in TESTED_RELEASES:
        return replace(found, seen=name)
    if release.get("ID") == "ubuntu":
        return replace(found, state="N/A", seen=name, means=UNTESTED_ON_UBUNTU)
    return replace(
        found,
        state="N/A",
        seen=name,
        means=f"untested: this project is tested on Debian {' and '.join(TESTED_RELEASES)}",
    )


def _user_namespaces() -> Finding:
    found = Finding("user-namespaces", "User namespaces", "OK", "this user can create them")
    if os.geteuid() == 0:
        return replace(found, state="N/A", seen="root does not need them")
    refusal = namespaces.refusal()
    if refusal is None:
        return found
    return replace(
        found,
        state="MISSING",
        seen=f"this user cannot create them: {refusal.message}",
        means="only root can build a base image or the disk of a lab, and the browser of the report's tests does not"
        " start; the matrix on an engine that has an image does not need them",
        remedy=refusal.remedy,
    )


def _base(inspection: Inspection) -> Finding:
    found = Finding("base", "Image, or base image to build it", "OK", "", vital=True)
    if inspection.image:
        return replace(found, seen=f"the engine has {inspection.image.tag}")
    if inspection.engine and _registry(inspection.engine):
        return replace(found, seen=f"the engine can pull {BASE}")
    cannot_pull = f"the engine cannot pull {BASE}" if inspection.engine else "no engine answers, which could pull it"
    lacks = _lacks_for_base()
    if not lacks:
        return replace(found, seen=f"{cannot_pull}; the base image is built from Debian packages")
    return replace(
        found,
        state="MISSING" if inspection.engine else "N/A",
        seen=f"{cannot_pull}, and {lacks.message}",
        remedy=f"{lacks.remedy}; or give the engine access to a registry, or load {BASE} (docker load)",
    )


def _lacks_for_base() -> HarnessError | None:
    """Return the reason why no base image can be built from Debian packages, with a remedy; None if it can."""
    if not shutil.which("mmdebstrap"):
        return HarnessError("mmdebstrap is not installed to build it", "sudo apt-get install mmdebstrap")
    try:
        known = apt.sources(SUITE)
    except HarnessError as error:
        return error
    return None if known else HarnessError("this machine's apt knows no Debian archive", "sudo apt-get update")


def _registry(engine: Engine) -> bool:
    try:
        within("the registry", lambda: engine.client.images.get_registry_data(BASE), seconds=REGISTRY_SECONDS)
    except (docker.errors.DockerException, requests.RequestException, DeadlineExpired):
        return False
    return True


def _disk() -> Finding:
    found = Finding("disk", "Disk space", "OK", "", vital=True)
    try:
        folder = paths.cache()
        free = shutil.disk_usage(folder).free
    except (HarnessError, OSError) as error:
        return replace(
            found,
            state="MISSING",
            seen=str(error).partition("\n")[0],
            remedy="set CONFORMANCE_CACHE to a folder of your own",
        )
    seen = f"{free / 2**30:.1f} GiB free in the cache folder {folder}"
    if free >= FREE_BYTES:
        return replace(found, seen=seen)
    wanted = f"{FREE_BYTES / 2**30:.0f} GiB"
    return replace(
        found,
        state="MISSING",
        seen=f"{seen}; {wanted} are needed",
        remedy="free disk space, or set CONFORMANCE_CACHE to a folder on another disk",
    )


def _packages(inspection: Inspection) -> Iterator[Finding]:
    if paths.CHECKOUT is None:  # without ./run, which installs packages
        return
    for command, title, vital in (("matrix", "Debian packages", True), ("lab", "Debian packages of the lab", False)):
        found = Finding(f"packages-{command}", title, "OK", "all are installed")
        missing = _missing(command)
        if missing is None:
            yield replace(
                found,
                state="N/A",
                seen="this machine has no dpkg",
                means=f"install the programs that {paths.PROJECT / 'run'} lists with this system's own tools",
            )
        elif not missing:
            yield found
        else:
            root = os.geteuid() == 0
            yield replace(
                found,
                state="OK" if root else "MISSING",
                seen=f"{f'./run {command} will install' if root else 'missing'}: {' '.join(missing)}",
                means=f"./run {command} installs them as root or with sudo",
                remedy="" if root else f"sudo apt-get install --no-install-recommends {' '.join(missing)}",
                vital=vital and inspection.engine is None,
            )


def _missing(command: str) -> Sequence[str] | None:
    """Return the packages that ./run would install for a command; None if ./run cannot list them."""
    try:
        done = subprocess.run(
            [str(paths.PROJECT / "run"), "packages", command], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split() if done.returncode == 0 else None
