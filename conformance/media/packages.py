"""What is inside Debian packages and kernel modules, without Debian's tools."""

import io
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from conformance.errors import MediaError
from conformance.media.recipe import Package


def contents(package: Path, files: set[str], folder: str) -> dict[str, bytes]:
    """Return files of a binary package, and all that is below a folder, by path.

    Source: deb(5): an `ar` archive with a member data.tar.xz.

    Args:
        package: the .deb file.
        files: paths, without a leading slash; a missing one is left out.
        folder: path, with a slash at its end.

    Raises:
        MediaError: the file is not such a package.
    """
    try:
        data = next(content for name, content in _ar(package.read_bytes()) if name == "data.tar.xz")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as archive:
            return {
                path: stream.read()
                for entry in archive
                if ((path := entry.name.removeprefix("./")) in files or path.startswith(folder))
                and (stream := archive.extractfile(entry))
            }
    except (StopIteration, ValueError, tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise MediaError(
            f"{package.name} is not a Debian package with a data.tar.xz: {error}",
            "pin a package of Debian 13 or older in the recipe; they are all of that form",
        ) from error


def taken(package: Package, file: Path) -> dict[str, bytes]:
    """Return the files that a recipe takes from a package, by its own names for them.

    Raises:
        MediaError: the package has not all of them.
    """
    # No folder is wanted as a whole: no path begins with a slash.
    inside = contents(file, set(package.files.values()), "/")
    for path in package.files.values():
        if path not in inside:
            raise MediaError(f"{package} has no file {path}", "correct `files` of that package in the recipe")
    return {name: inside[path] for name, path in package.files.items()}


def _ar(archive: bytes) -> Iterator[tuple[str, bytes]]:
    at = 8
    while at < len(archive):
        name, size = archive[at : at + 16].decode().strip(), int(archive[at + 48 : at + 58])
        yield name.rstrip("/"), archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def module_closure(wanted: list[str], modules: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Return the wanted kernel modules with all they depend on, and the modules.dep that modprobe needs.

    Args:
        wanted: names of modules.
        modules: the kernel package's modules, `NAME.ko.xz` content by path.

    Returns:
        Uncompressed modules by file name, and the text of modules.dep(5).

    Raises:
        MediaError: the kernel has no such module.
    """
    compressed = {Path(path).name.removesuffix(".ko.xz").replace("-", "_"): xz for path, xz in modules.items()}
    loaded: dict[str, bytes] = {}
    needs: dict[str, list[str]] = {}

    def visit(name: str) -> list[str]:
        """Return all that ``name`` needs, the deepest last: modprobe loads from the end."""
        if name not in compressed:
            raise MediaError(
                f"the pinned kernel has no module {name}",
                "correct `modules` in the recipe; drivers that are built into the kernel must not be listed",
            )
        if name not in needs:
            loaded[name] = lzma.decompress(compressed[name])
            # The section .modinfo holds strings KEY=VALUE, each ended by a NUL (modinfo(8)).
            found = re.search(rb"(?<=\0)depends=([\w,-]*)\0", loaded[name])
            direct = [need for need in (found[1].decode() if found else "").replace("-", "_").split(",") if need]
            every = direct + [deep for need in direct for deep in visit(need)]
            needs[name] = list(dict.fromkeys(reversed(every)))[::-1]  # each after all that need it
        return needs[name]

    for name in wanted:
        visit(name)
    order = sorted(loaded)
    dep = "".join(f"{name}.ko:{''.join(f' {need}.ko' for need in needs[name])}\n" for name in order)
    return {f"{name}.ko": loaded[name] for name in order}, dep
