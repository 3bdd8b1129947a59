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
"""Where they are kept."""

LEAST = "least"
"""The mode with the fewest privileges: it is recommended, and a search begins with what it has."""


Subject = tuple[str, ...]
"""What a search is about: answers about the same subject are one search's."""


def subject(mode: str, host: Host, image: Image) -> Subject:
    """Return the subject of a mode on a host with an image: another kernel or engine may ask for other privileges."""
    facts = ("kernel", "engine", "cgroup_version", "security")
    return (mode, *host.identity, *(str(host.fingerprint.get(fact, "")) for fact in facts), image.identity)


class Answer(Data):
    """What one feature said in one configuration.

    Attributes:
        verdict: whether it works; ``unsupported`` where the host cannot be asked.
        cause: id of a cause in the contract, where one was recognised.
        reason: why it does not work, in one line.
        error: the daemon's error or the guest's report, in full up to a limit.
    """

    verdict: Literal["works", "fails", "unsupported"]
    cause: str = ""
    reason: str = ""
    error: str = ""


class Configuration(Dated):
    """One start.

    Attributes:
        mode: what the configuration is less than.
        without: ids of the parts that it lacks.
        answers: by a feature's id.
        warnings: what the image's start-up said of what is missing.
        seconds: how long all of it took.
    """

    without: tuple[str, ...]
    answers: dict[str, Answer]
    warnings: tuple[str, ...] = ()
    seconds: float = Field(ge=0)

    @property
    def subject(self) -> Subject:
        """Return what it is an answer about."""
        return subject(self.mode, self.host, self.image)

    @property
    def works(self) -> dict[str, bool | None]:
        """Return for each feature whether it works; None where the host could not be asked."""
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
    """Make the search that these answers are of, and let it learn them.

    Args:
        contract: where the mode and its parts are defined.
        mode: the mode's id.
        configurations: of one subject, in the order in which they were started.
        only: the features that it is about; all that the whole mode could be asked, if empty.
        parts: ids of what is taken away; all that can be, if empty.
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
    """Return what can be taken away from a mode, what one would rather do without first."""
    parts = removable(contract, contract.mode(mode))
    trades = [one.id for one in contract.switches if one.id in parts]
    first = [one for one in contract.dangers if one in parts]
    return [*trades, *first, *(one for one in parts if one not in first and one not in trades)]
