"""Changes as data: deliberate defects with the checks that must notice them, and harmless changes."""

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conformance.errors import ContractError
from conformance.model.contract import Contract, Regex
from conformance.model.verdict import Verdict
from conformance.util import paths

DEFECTS = paths.SELFCHECK / "defects"
BENIGN = paths.SELFCHECK / "benign"

HARNESS = "harness"
"""In place of a feature, for defects of the harness itself."""

Layer = Literal["image", "mode", "medium", "harness"]
"""The changed layer: the image, the call that starts it, the guests' media, or the harness."""

Need = Literal["kvm", "lab"]
"""A requirement on the host: a working KVM, or a lab, which is disposable and has spare PCI devices."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Ask:
    """The checks to run.

    Attributes:
        feature: a feature's id.
        check: one test of its suite, with or without parameters; the ``essential`` ones if empty.
    """

    feature: str
    check: str

    def includes(self, feature: str, check: str, *, essential: bool) -> bool:
        """Return whether a check belongs to it."""
        named = self.check in (check, check.partition("[")[0]) if self.check else essential
        return feature == self.feature and named


def _ask(text: str) -> Ask:
    feature, _, check = text.partition("::")
    return Ask(feature, check)


class Notice(_Data):
    """A check that must notice a defect.

    Attributes:
        by: ``feature`` or ``feature::check``, or ``harness`` for a change's command.
        verdict: the expected verdict.
        cause: a regular expression that matches the failure's text only if it names the cause.
    """

    by: str
    verdict: Verdict = Verdict.FAILS
    cause: Regex

    @property
    def ask(self) -> Ask:
        """The checks to run."""
        return _ask(self.by)


class Edit(_Data):
    """A replacement of a text in files.

    Attributes:
        file: the path below the changed folder, or a pattern for several files.
        old: the text to replace, at each occurrence.
        new: the new text.
    """

    file: str
    old: str
    new: str


class Change(_Data):
    """One change, and the expected result.

    Attributes:
        id: its file's name.
        digest: of its file, the title included: outcomes with another digest do not count.
        title: the defect, in one sentence.
        suite: the release of Debian that the image is built on; by default the image's own.
        dockerfile: instructions of a Dockerfile over the image under test.
        call: a JSON merge patch of the engine's ``POST /containers/create``.
        medium: changes of the recipe from which the probe's media are built.
        stale: whether the media keep their former name, as in a stale cache.
        contract: changes of the contract, as TOML.
        project: changes of the harness, in a copy of the project.
        command: the Python module and its arguments that run in that copy and have to fail.
        mode: the mode of the suites.
        ready_seconds: deadline for libvirt after the start, shorter for a container that never answers.
        needs: requirements on the host.
        notice: the checks that must notice it; none if it is benign.
        quiet: further checks, which must not report anything.
        repeat: the number of runs.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    digest: str
    title: str
    suite: Annotated[str, Field(pattern=r"^[a-z]*$")] = ""
    dockerfile: str = ""
    call: dict[str, Any] = Field(default_factory=dict)
    medium: tuple[Edit, ...] = ()
    stale: bool = False
    contract: str = ""
    project: tuple[Edit, ...] = ()
    command: tuple[str, ...] = ()
    mode: str = "unprivileged"
    ready_seconds: Annotated[float, Field(gt=0)] | None = None
    needs: tuple[Need, ...] = ()
    notice: tuple[Notice, ...] = ()
    quiet: tuple[str, ...] = ()
    repeat: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _asks_what_it_can(self) -> "Change":
        asked = [*(one.by for one in self.notice), *self.quiet]
        if bool(self.project) != bool(self.command):
            raise ValueError("project and command go together")
        if not self.notice and not self.quiet:
            raise ValueError("no check runs: notice and quiet are empty")
        if bool(self.command) != (HARNESS in asked) or (self.command and len(asked) > 1):
            raise ValueError(f"a command excludes other checks: notice or quiet must hold {HARNESS} alone")
        return self

    @property
    def benign(self) -> bool:
        """Whether no check may notice it."""
        return not self.notice

    @property
    def layer(self) -> Layer:
        """The changed layer; the image if nothing is changed."""
        if self.project or (self.contract and not self.dockerfile):
            return "harness"
        if self.medium:
            return "medium"
        return "mode" if self.call and not self.dockerfile else "image"

    @property
    def quiets(self) -> tuple[Ask, ...]:
        """The checks of suites that must not report anything."""
        return tuple(_ask(one) for one in self.quiet if one != HARNESS)

    @property
    def asks(self) -> tuple[Ask, ...]:
        """All checks of suites."""
        return (*(one.ask for one in self.notice if one.by != HARNESS), *self.quiets)

    @property
    def features(self) -> tuple[str, ...]:
        """The features that must notice it, each once: their ids, or :data:`HARNESS`."""
        return tuple(dict.fromkeys(one.ask.feature for one in self.notice))

    def require(self, contract: Contract) -> None:
        """Raise ContractError if the contract lacks a mode or feature of it."""
        contract.mode(self.mode)
        for one in self.asks:
            contract.feature(one.feature)


def read(file: Path) -> Change:
    """Read a change; raises ContractError if the file is invalid."""
    try:
        text = file.read_bytes()
        data = tomllib.loads(text.decode())
        return Change.model_validate({"id": file.stem, "digest": hashlib.sha256(text).hexdigest()[:16], **data})
    except OSError as error:
        raise ContractError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ContractError(f"{file.name} is not a change: {error}") from error


def load(folders: Iterable[Path] = (DEFECTS, BENIGN)) -> list[Change]:
    """Read all changes: defects first, each folder by name.

    Raises:
        ContractError: a file is invalid, or two have the same name.
    """
    found = [read(file) for folder in folders for file in sorted(folder.glob("*.toml"))]
    ids = [one.id for one in found]
    for twice in {one for one in ids if ids.count(one) > 1}:
        raise ContractError(f"two changes are called {twice!r}", "rename one of the files")
    return found


def chosen(known: Sequence[Change], wanted: Sequence[str]) -> list[Change]:
    """Return the changes with these ids, or all if there are none; raises ContractError for an unknown id."""
    for one in wanted:
        if one not in {change.id for change in known}:
            raise ContractError(f"no change is called {one!r}", f"choose one of: {', '.join(one.id for one in known)}")
    return [one for one in known if not wanted or one.id in wanted]
