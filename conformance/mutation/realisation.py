"""The image of a mutant: a thin layer over the image, or a build of the changed folder."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from docker.errors import ImageNotFound

from conformance.engine import image, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.engine_messages import Progress
from conformance.mutation import image_source
from conformance.mutation.mutant import Mutant
from conformance.run.context import Run
from conformance.util import paths, signals


@contextlib.contextmanager
def realised(run: Run, mutant: Mutant, progress: Progress) -> Iterator[str]:
    """Yield the id of the mutant's image, and remove it afterwards.

    Raises:
        HarnessError: the build failed.
        EngineError: the engine refused or is gone.
    """
    files = image_source.read()
    places = {one: image_source.destinations(files, one) for one in mutant.files}
    if all(places.values()):
        replaced = {
            place: (mutant.files[one], (paths.IMAGE / one).stat().st_mode & 0o777)
            for one, found in places.items()
            for place in found
        } | {place: (text, 0o755) for place, text in mutant.programs.items()}
        with image.layer(run.engine, progress, run.image.id, mutant.instructions, run.id, replaced) as made:
            yield made
    else:
        with _rebuilt(run, mutant, progress) as made:
            yield made


@contextlib.contextmanager
def _rebuilt(run: Run, mutant: Mutant, progress: Progress) -> Iterator[str]:
    """Build the changed folder: for files that only the build uses."""
    tag = names.new(run.id, "mutant")
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch, engine_errors():
        folder = Path(scratch, "image")
        shutil.copytree(paths.IMAGE, folder)
        for one, text in mutant.files.items():
            (folder / one).write_text(text, encoding="utf-8")
        try:
            yield image.ensure_image(run.engine, progress, tag=tag, folder=folder, log=Path(scratch, "log")).id
        finally:
            with signals.deferred(), contextlib.suppress(ImageNotFound):
                run.engine.client.images.remove(tag, force=True)
