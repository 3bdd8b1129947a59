"""Media that others made, taken as they are from the pinned Debian packages of fixtures/isos/others/recipe.toml."""

import hashlib
import tomllib
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import MediaError
from conformance.media import download, packages, store
from conformance.media.recipe import Package
from conformance.util import apt, paths

RECIPE = paths.ISOS / "others" / "recipe.toml"


class _Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    fallback: list[str]
    inputs: list[Package]


def third_party_media(
    progress: Callable[[str], None] = lambda _: None, *, recipe: Path = RECIPE, cache: Path | None = None
) -> dict[str, Path]:
    """Return the media by file name, fetched unless they are in the cache already and unharmed.

    Args:
        progress: receives a line about each step.
        recipe: the recipe's file.
        cache: the folder of downloads and media; by default the project's own cache.

    Raises:
        MediaError: one could not be fetched or stored, or its package no longer has it.
    """
    try:
        content = recipe.read_text()
        wanted = _Recipe.model_validate(tomllib.loads(content))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise MediaError(
            f"{recipe} is not a recipe: {error}", "correct it, or restore it from the repository"
        ) from error

    def made(downloads: Path) -> dict[str, bytes]:
        sources = [*apt.mirrors(), *(apt.Mirror(url) for url in wanted.fallback)]
        found: dict[str, bytes] = {}
        for package in wanted.inputs:
            found |= packages.taken(package, download.fetch(package, downloads, sources, progress))
        return found

    name = f"others-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    folder = store.ensured(name, progress, made, cache)
    return {name: folder / name for package in wanted.inputs for name in package.files}
