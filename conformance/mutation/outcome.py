"""The outcome of a mutant: its judgement and its record."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from conformance.model import record
from conformance.model.record import Dated
from conformance.mutation.mutant import Kind
from conformance.selfcheck.outcome import Said
from conformance.util import paths

FOLDER = paths.RESULTS / "mutation"
"""The folder of the outcomes."""

TEXT_CHARACTERS = 300
"""Limit of a failure's text in an outcome."""

START = (
    "the container ended before libvirt answered",
    "for libvirt to answer at",
    "the engine does not start the container",
)
"""Texts of a failure of the container's start."""


class Result(StrEnum):
    """The result of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    INVALID = "invalid"
    """It cannot be built, or no check could be tested with it."""


class Outcome(Dated):
    """The outcome of one mutant.

    Attributes:
        mutant: its id.
        kind: its kind.
        file: its file.
        digest: the digest of the change.
        suites: the digest of the contract and the suites that ran.
        result: the judgement.
        by: the check that noticed it first, as ``feature::check``; empty if none did.
        start: whether the container did not start.
        why: the failure of that check, or the reason why the mutant is invalid, in one line.
        checks: the number of checks that ran.
        seconds: the duration.
    """

    mutant: str
    kind: Kind
    file: str
    digest: str
    suites: str
    result: Result
    by: str = ""
    start: bool = False
    why: str = ""
    checks: int = Field(ge=0)
    seconds: float = Field(ge=0)


def judge(said: Sequence[Said]) -> tuple[Result, Said | None]:
    """Return the result, and the first check that noticed the mutant.

    A mutant without any decided check is invalid: nothing was tested with it.
    """
    noticed = next((one for one in said if one.verdict.bad), None)
    if noticed:
        return Result.KILLED, noticed
    return (Result.SURVIVED if any(one.verdict.decided for one in said) else Result.INVALID), None


def failed_to_start(text: str) -> bool:
    """Return whether a failure is one of the container's start."""
    return any(one in text for one in START)


def first_line(text: str) -> str:
    """Return the first line of a text, up to a limit."""
    return next(iter(text.strip().splitlines()), "")[:TEXT_CHARACTERS]


def read(folder: Path = FOLDER) -> list[Outcome]:
    """Read all outcomes of a folder, oldest run first; raises HarnessError for an invalid line."""
    return list(record.read_all(folder, Outcome))
