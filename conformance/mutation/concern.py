"""The file ``selfcheck/mutation.toml``: the checks that have to do with a mutant, and the equivalent mutants."""

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import ContractError
from conformance.model.contract import Contract
from conformance.mutation.mutant import Mutant
from conformance.util import paths

FILE = paths.SELFCHECK / "mutation.toml"


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Concern(_Data):
    """The features whose checks have to do with some mutants.

    Attributes:
        kind: their kind, a pattern.
        file: their file, a pattern.
        place: their place, a pattern.
        mode: the mode in which the checks run.
        features: the features, most likely to notice first.
    """

    kind: str = "*"
    file: str = "*"
    place: str = "*"
    mode: str = "least"
    features: tuple[str, ...] = Field(min_length=1)

    def holds_for(self, mutant: Mutant) -> bool:
        """Return whether a mutant is one of these."""
        return (
            fnmatchcase(mutant.kind, self.kind)
            and fnmatchcase(mutant.file, self.file)
            and fnmatchcase(mutant.place, self.place)
        )


class Equivalent(_Data):
    """A mutant that no check can notice.

    Attributes:
        id: the mutant's id.
        reason: the reason, for readers.
    """

    id: str
    reason: str = Field(min_length=20)


class Concerns(_Data):
    """The whole file.

    Attributes:
        slow: checks that run only for a concern that names them, as ``feature::check``.
        concerns: the first one that holds for a mutant counts.
        equivalent: the equivalent mutants.
    """

    slow: tuple[str, ...] = ()
    concerns: tuple[Concern, ...]
    equivalent: tuple[Equivalent, ...] = ()

    def of_mutant(self, mutant: Mutant) -> Concern:
        """Return the concern of a mutant; raises ContractError if there is none."""
        for one in self.concerns:
            if one.holds_for(mutant):
                return one
        raise ContractError(
            f"no concern in {FILE.name} holds for {mutant.id} ({mutant.kind}, {mutant.file})",
            "add a [[concerns]] table for it",
        )

    def reason(self, mutant: Mutant) -> str:
        """Return why a mutant is equivalent to the image; empty if it is not."""
        return next((one.reason for one in self.equivalent if one.id == mutant.id), "")

    def require(self, contract: Contract, mutants: Iterable[Mutant]) -> None:
        """Raise ContractError for an unknown mode, feature or mutant."""
        for concern in self.concerns:
            contract.mode(concern.mode)
            for feature in concern.features:
                contract.feature(feature.partition("::")[0])
        known = {one.id for one in mutants}
        for one in self.equivalent:
            if one.id not in known:
                raise ContractError(
                    f"{FILE.name} declares {one.id!r} equivalent, but no mutant has this id",
                    "remove the entry, or correct its id (conformance mutate --list)",
                )


def load(file: Path = FILE) -> Concerns:
    """Read the file; raises ContractError if it is invalid."""
    try:
        return Concerns.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ContractError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ContractError(f"{file.name} is invalid: {error}") from error
