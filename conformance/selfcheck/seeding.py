"""Seeding: makes a change, and a run that tests it."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from conformance.container.container import Container
from conformance.engine import base_image, image
from conformance.errors import ContractError, HarnessError
from conformance.media import probe as probe_media
from conformance.media.probe import Probe
from conformance.model import contract as contracts
from conformance.model.mode import Mode
from conformance.model.record import Recorder
from conformance.run.context import Run
from conformance.selfcheck.change import Change, Edit
from conformance.util import paths

LEFT_OUT = (".git", ".venv", ".tox", ".*_cache", "__pycache__", "*.egg-info", "artefacts", "report.html")
"""Files that a copy of the project does not need."""


@dataclasses.dataclass(frozen=True)
class _MisledMode(Mode):
    """A mode whose call to the engine is changed."""

    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def engine_call(self, image: str, **how: Any) -> dict[str, Any]:
        """Render the container as :meth:`Mode.engine_call` does, with the change."""
        return dict(merged(super().engine_call(image, **how), self.call))


@dataclasses.dataclass(frozen=True)
class _SeededRun(Run):
    """A part of another run, with its peer network, whose containers differ from their mode."""

    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def container(self, mode: Mode, *, network: str) -> Container:
        """Return a container as :meth:`Run.container` does, with the changed call to the engine."""
        made = super().container(mode, network=network)
        made.mode = _MisledMode(**_fields(made.mode), call=self.call)
        return made


def merged(target: Any, patch: Any) -> Any:
    """Return a JSON merge patch's result (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    whole = dict(target) if isinstance(target, Mapping) else {}
    return whole | {key: merged(whole.get(key), value) for key, value in patch.items()}


@contextlib.contextmanager
def seeded(run: Run, change: Change, scratch: Path, progress: Callable[[str], None]) -> Iterator[tuple[Run, Path]]:
    """Yield a part of a run that tests a change, and the file of its contract.

    Args:
        run: the whole run.
        change: the change.
        scratch: an empty folder.
        progress: gets each step.

    Raises:
        ContractError: the changed contract is invalid, or an edit finds nothing to replace.
        HarnessError: image or media cannot be built.
    """
    claims, file = run.contract, paths.CONTRACT
    if change.contract:
        file = scratch / "contract.toml"
        file.write_text(f"schema = 1\nextends = true\n{change.contract}")
        claims = contracts.load(file)
    judged, probe = run.image, run.probe
    if change.medium:
        progress(f"{change.id}: building the media")
        probe = _media(run.probe, change, scratch)
    with contextlib.ExitStack() as undo:
        if change.suite:
            base = base_image.default(run.engine, progress, change.suite)
            log = paths.cache() / f"image-build-{change.suite}.log"
            tag = f"{image.TAG.partition(':')[0]}:{change.suite}"
            other = image.ensure_image(run.engine, progress, base=base, tag=tag, log=log)
            judged = judged.model_copy(update={"id": other.id, "base": other.base})
        if change.dockerfile:
            layer = undo.enter_context(image.layer(run.engine, progress, judged.id, change.dockerfile, run.id))
            judged = judged.model_copy(update={"id": layer})
        part = part_of(
            run,
            scratch,
            call=change.call,
            contract=claims,
            image=judged,
            probe=probe,
            ready_seconds=change.ready_seconds or run.ready_seconds,
            # One boot by Secure Boot, the slowest one, is cheaper than one boot by each firmware.
            minimise_boots=change.repeat > 1,
        )
        yield part, file


def part_of(run: Run, scratch: Path, **differences: Any) -> Run:
    """Return a part of a run that records into a folder of its own, and differs from the run in some fields."""
    recorder = Recorder(scratch / "records", run.host_name, run.id)
    part = _SeededRun(**_fields(run) | {"recorder": recorder, "warnings": {}} | differences)
    run.lend(part)
    return part


def _fields(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}


def _media(before: Probe, change: Change, scratch: Path) -> Probe:
    """Build the probe's media from a changed recipe, in a cache of their own."""
    recipe, cache = scratch / "recipe", scratch / "cache"
    shutil.copytree(probe_media.RECIPE, recipe)
    edit(recipe, change.medium)
    downloads = paths.cache() / "downloads"
    downloads.mkdir(exist_ok=True)
    cache.mkdir()
    (cache / downloads.name).symlink_to(downloads)
    made = probe_media.ensure(folder=recipe, cache=cache)
    return dataclasses.replace(made, recipe=before.recipe) if change.stale else made


def edit(folder: Path, edits: Iterable[Edit]) -> None:
    """Change files of a folder.

    Raises:
        ContractError: no file has the text to replace.
    """
    for one in edits:
        files = [file for file in folder.glob(one.file) if one.old in file.read_text(encoding="utf-8")]
        if not files:
            raise ContractError(
                f"cannot make the change: {one.file} does not contain {one.old!r}",
                "adapt the change to the present file",
            )
        for file in files:
            file.write_text(file.read_text(encoding="utf-8").replace(one.old, one.new), encoding="utf-8")


def copy_of_project(change: Change, folder: Path) -> Path:
    """Make a changed copy of the project in a folder, and return its path; raises what :func:`edit` raises."""
    copy = folder / "project"
    try:
        shutil.copytree(paths.PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    except (OSError, shutil.Error) as error:
        raise HarnessError(f"the project cannot be copied: {error}", "make room in the folder of $TMPDIR") from error
    edit(copy, change.project)
    return copy
