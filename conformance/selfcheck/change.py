"""Changes as data: what is broken on purpose and who has to notice it, or what must make no difference."""

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
"""Who has to notice what is wrong with the harness itself: none of the features."""

Layer = Literal["image", "mode", "medium", "harness"]
"""What is changed: the image, how the engine is told to start it, what guests boot from, or what judges."""

Need = Literal["kvm", "lab"]
"""What a host has to have: a KVM that works; or that nobody minds losing it, and spare PCI devices."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Ask:
    """What is asked.

    Attributes:
        feature: a feature's id.
        check: one test of its suite, with or without parameters; those marked ``essential`` if empty.
    """

    feature: str
    check: str

    def includes(self, feature: str, check: str, *, essential: bool) -> bool:
        """Say whether a test is part of it."""
        named = self.check in (check, check.partition("[")[0]) if self.check else essential
        return feature == self.feature and named


def _ask(text: str) -> Ask:
    feature, _, check = text.partition("::")
    return Ask(feature, check)


class Notice(_Data):
    """Who has to notice a defect, and by what.

    Attributes:
        by: ``feature`` or ``feature::check``, or ``harness`` for what a change's command says.
        verdict: what is to come of it.
        cause: a regular expression that the failure's text matches only where the cause was understood.
    """

    by: str
    verdict: Verdict = Verdict.FAILS
    cause: Regex

    @property
    def ask(self) -> Ask:
        """Return what is asked."""
        return _ask(self.by)


class Edit(_Data):
    """A text that is put in place of another, in a file.

    Attributes:
        file: its path below the folder that is changed; a pattern may stand for several.
        old: what is there, each time that it is.
        new: what is put there.
    """

    file: str
    old: str
    new: str


class Change(_Data):
    """One change, and what has to come of it.

    Attributes:
        id: its file's name.
        digest: of its file: another one is another question.
        title: what is wrong, in one sentence.
        dockerfile: instructions of a Dockerfile over the image under test.
        call: what of the engine's ``POST /containers/create`` is other than the mode says: a JSON merge patch.
        medium: changes of the probe's recipe, from which its media are built anew.
        stale: the media keep the name of those that they were before: a cache that is behind.
        contract: what differs in the contract, as TOML.
        project: changes of the harness, in a copy of the project.
        command: what is run in that copy, and has to say so.
        mode: in which mode suites are asked.
        ready_seconds: how long libvirt may take to answer: a container that never does is not waited for longer.
        needs: what the host has to have for it to be seen.
        notice: who has to notice it; nobody, if it is benign.
        quiet: what is asked as well, by the same words, and has nothing to say against it.
        repeat: how often it is asked.
    """

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    digest: str
    title: str
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
            raise ValueError("nobody is asked: notice and quiet are empty")
        if bool(self.command) != (HARNESS in asked) or (self.command and len(asked) > 1):
            raise ValueError(f"a command is asked alone, as {HARNESS}")
        return self

    @property
    def benign(self) -> bool:
        """Say whether nobody may notice it."""
        return not self.notice

    @property
    def layer(self) -> Layer:
        """Return what is changed; of an untouched image that is the image."""
        if self.project or (self.contract and not self.dockerfile):
            return "harness"
        if self.medium:
            return "medium"
        return "mode" if self.call and not self.dockerfile else "image"

    @property
    def quiets(self) -> tuple[Ask, ...]:
        """Return what suites are asked that has nothing to say against it."""
        return tuple(_ask(one) for one in self.quiet if one != HARNESS)

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Return all that suites are asked."""
        return (*(one.ask for one in self.notice if one.by != HARNESS), *self.quiets)

    @property
    def features(self) -> tuple[str, ...]:
        """Return who has to notice it, each once: ids of features, or :data:`HARNESS`."""
        return tuple(dict.fromkeys(one.ask.feature for one in self.notice))

    def require(self, contract: Contract) -> None:
        """Raise ContractError where it names a mode or a feature that the contract does not have."""
        contract.mode(self.mode)
        for one in self.asks:
            contract.feature(one.feature)


def read(file: Path) -> Change:
    """Read a change; raises ContractError where the file is none."""
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
        ContractError: one is not as it should be, or two have one name.
    """
    found = [read(file) for folder in folders for file in sorted(folder.glob("*.toml"))]
    ids = [one.id for one in found]
    for twice in {one for one in ids if ids.count(one) > 1}:
        raise ContractError(f"two changes are called {twice!r}", "rename one of the files")
    return found


def chosen(known: Sequence[Change], wanted: Sequence[str]) -> list[Change]:
    """Return the changes of these ids; all, if there are none; raises ContractError for an unknown one."""
    for one in wanted:
        if one not in {change.id for change in known}:
            raise ContractError(f"no change is called {one!r}", f"choose of: {', '.join(one.id for one in known)}")
    return [one for one in known if not wanted or one.id in wanted]
