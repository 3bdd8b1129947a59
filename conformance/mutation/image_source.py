"""The source of the image: its text files now or in another revision, and their places in the image."""

import re
import subprocess
from pathlib import Path, PurePosixPath

from conformance.errors import HarnessError
from conformance.mutation.mutant import ImageFiles
from conformance.util import paths

_COPY = re.compile(r"^COPY ((?:\S+ )+)(/\S*)$", re.MULTILINE)


def read(folder: Path = paths.IMAGE) -> ImageFiles:
    """Return the files of the image's folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_revision(revision: str) -> ImageFiles:
    """Return the files of the image's folder in a revision of the repository.

    Raises:
        HarnessError: git knows no such revision.
    """
    listed = _git("ls-tree", "-r", "--name-only", revision, "--", "image/")
    return {path.removeprefix("image/"): _git("show", f"{revision}:{path}") for path in listed.splitlines()}


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(paths.PROJECT), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"git {' '.join(words)} failed: {done.stderr.strip()}", "name a commit of this repository")
    return done.stdout


def destinations(files: ImageFiles, path: str) -> tuple[str, ...]:
    """Return the paths in the image to which the Dockerfile copies a file; none for a file that only the build uses."""
    found = []
    for sources, target in _COPY.findall(files["Dockerfile"]):
        for source in sources.split():
            if path == source:
                found.append(str(PurePosixPath(target, PurePosixPath(path).name)))
            elif source.endswith("/") and path.startswith(source):
                found.append(str(PurePosixPath(target, path.removeprefix(source))))
    return tuple(one for one in found if not one.startswith("/tmp/"))  # noqa: S108 - a folder of the image
