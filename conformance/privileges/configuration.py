"""Configurations as records: one JSON line for each start of a mode without some of its parts."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from conformance.model import record
from conformance.model.contract import Contract
from conformance.model.mode import removable
from conformance.model.record import Data, Dated, Host, Image
from conformance.privileges.search import Search
from conformance.util import paths

FOLDER = paths.RESULTS / "privileges"
"""The folder of the records."""

LEAST = "least"
"""The mode with the fewest privileges: it is recommended, and a search begins with its parts."""


Subject = tuple[str, ...]
"""Mode, host and image of a search: answers with the same subject belong to one search."""


def subject(mode: str, host: Host, image: Image) -> Subject:
    """Return the subject of a mode on a host with an image: another kernel or engine may need other privileges."""
    facts = ("kernel", "engine", "cgroup_version", "security")
    return (mode, *host.identity, *(str(host.fingerprint.get(fact, "")) for fact in facts), image.identity)


class Answer(Data):
    """The result of one feature in one configuration.

    Attributes:
        verdict: whether it works; ``unsupported`` if the host cannot test it.
        cause: id of the recognised cause in the contract, if any.
        reason: why it does not work, in one line.
        error: the daemon's error or the guest's report, up to a limit.
    """

    verdict: Literal["works", "fails", "unsupported"]
    cause: str = ""
    reason: str = ""
    error: str = ""


class Configuration(Dated):
    """One start.

    Attributes:
        mode: the id of the whole mode.
        without: ids of the missing parts.
        answers: the answer of each feature, by its id.
        warnings: the warnings in the image's log at its start.
        seconds: the duration.
    """

    without: tuple[str, ...]
    answers: dict[str, Answer]
    warnings: tuple[str, ...] = ()
    seconds: float = Field(ge=0)

    @property
    def subject(self) -> Subject:
        """Mode, host and image."""
        return subject(self.mode, self.host, self.image)

    @property
    def works(self) -> dict[str, bool | None]:
        """Whether each feature works; None where the host cannot test it."""
        known = {"works": True, "fails": False, "unsupported": None}
        return {feature: known[answer.verdict] for feature, answer in self.answers.items()}


def read(folder: Path = FOLDER) -> list[Configuration]:
    """Read all configurations of a folder, oldest run first; raises HarnessError where a line is none."""
    return list(record.read_all(folder, Configuration))


def search(
    contract: Contract,
    mode: str,
    configurations: Iterable[Configuration],
    only: Sequence[str] = (),
    parts: Sequence[str] = (),
) -> Search:
    """Return the search with these answers.

    Args:
        contract: defines the mode and its parts.
        mode: the mode's id.
        configurations: configurations of one subject, in the order of their starts.
        only: ids of features; all that were tested in the whole mode if empty.
        parts: ids of the parts to remove; all removable ones if empty.
    """
    known = list(configurations)
    asked = {
        feature
        for one in known
        if not one.without
        for feature, answer in one.answers.items()
        if answer.verdict != "unsupported"
    }
    features = [one.id for one in contract.features if one.id in asked and (not only or one.id in only)]
    removed = [one for one in by_danger(contract, mode) if not parts or one in parts]
    trades = frozenset(one.id for one in contract.switches if one.id in removed)
    made = Search(removed, trades, features, frozenset(contract.mode(LEAST).exposures) & {*removed})
    for one in known:
        made.learn(one.without, one.works)
    return made


def by_danger(contract: Contract, mode: str) -> list[str]:
    """Return the removable parts of a mode, the most dangerous ones first."""
    parts = removable(contract, contract.mode(mode))
    trades = [one.id for one in contract.switches if one.id in parts]
    first = [one for one in contract.dangers if one in parts]
    return [*trades, *first, *(one for one in parts if one not in first and one not in trades)]
