"""The outcome of a change: its judgement and its record."""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import Field

from conformance.model import record
from conformance.model.record import Data, Dated, Record
from conformance.model.verdict import Verdict
from conformance.selfcheck.change import HARNESS, Change, Notice
from conformance.util import paths

FOLDER = paths.RESULTS / "selfcheck"
"""The folder of the outcomes."""

TEXT_CHARACTERS = 1500
"""Limit of a failure's text in an outcome."""


class Result(StrEnum):
    """The result: the first three for defects, the next two for benign changes."""

    CAUGHT = "caught"
    WRONG = "caught for a wrong reason"
    MISSED = "missed"
    QUIET = "quiet"
    ALARM = "false alarm"
    NOT_RUN = "not run"

    @property
    def good(self) -> bool:
        """Whether the harness judged correctly, or was not tested."""
        return self in (Result.CAUGHT, Result.QUIET, Result.NOT_RUN)


class Said(Data):
    """The result of one check.

    Attributes:
        feature: the feature's id; :data:`HARNESS` for a command.
        check: the check's name, or the command.
        verdict: its verdict.
        text: the reason, up to a limit.
    """

    feature: str
    check: str
    verdict: Verdict
    text: str = ""


class Outcome(Dated):
    """The outcome of one change.

    Attributes:
        change: its id.
        digest: the digest of its file.
        suites: the digest of the contract and the suites.
        turn: the number of its repetition.
        result: the judgement.
        why: the reason in one line; empty if the judgement is as expected.
        said: the result of each check.
        seconds: the duration.
    """

    change: str
    digest: str
    suites: str
    turn: int = Field(ge=1)
    result: Result
    why: str = ""
    said: tuple[Said, ...] = ()
    seconds: float = Field(ge=0)


def said(records: Sequence[Record]) -> tuple[Said, ...]:
    """Return the results in records."""
    return tuple(
        Said(
            feature=one.feature,
            check=one.check,
            verdict=one.verdict,
            text=str(one.evidence.get("error") or one.reason)[:TEXT_CHARACTERS],
        )
        for one in records
    )


def judge(change: Change, answers: Sequence[Said]) -> tuple[Result, str]:
    """Judge a change; return the result and the reason if it is not as expected.

    A defect is caught if each check that must notice it does, with the expected verdict and cause, and nothing else is
    blamed: no other feature, not the harness itself, and no check of the same feature that must be quiet.
    """
    blamed = [one for one in answers if one.verdict.bad and not _has_part(change, one)]
    if change.benign:
        return (Result.ALARM, _told(blamed[0])) if blamed else (Result.QUIET, "")
    unmet = [one for one in change.notice if not any(_meets(one, each) for each in answers)]
    if not unmet and not blamed:
        return Result.CAUGHT, ""
    if not any(one.verdict.bad or _as_wanted(change, one) for one in answers):
        return Result.MISSED, f"not noticed by: {', '.join(one.by for one in unmet)}"
    why = [f"{one.by} was expected to be: {one.verdict.words}, {one.cause!r}" for one in unmet]
    why += [f"blamed: {_told(one)}" for one in blamed]
    return Result.WRONG, "; ".join(why)


def _has_part(change: Change, answer: Said) -> bool:
    """Return whether a check may notice a defect: its feature must, and the check is not among the quiet ones."""
    quiet = any(ask.check and ask.includes(answer.feature, answer.check, essential=True) for ask in change.quiets)
    return answer.feature in change.features and not quiet


def _meets(notice: Notice, answer: Said) -> bool:
    """Return whether a result notices a defect as expected."""
    return (
        _is_from(notice, answer)
        and answer.verdict is notice.verdict
        and re.search(notice.cause, answer.text) is not None
    )


def _is_from(notice: Notice, answer: Said) -> bool:
    return notice.by == HARNESS == answer.feature or notice.ask.includes(answer.feature, answer.check, essential=True)


def _as_wanted(change: Change, answer: Said) -> bool:
    return any(_is_from(one, answer) and answer.verdict is one.verdict for one in change.notice)


def _told(answer: Said) -> str:
    first = next(iter(answer.text.strip().splitlines()), "")
    return f"{answer.feature}::{answer.check} {answer.verdict.words}: {first}"


def read(folder: Path = FOLDER) -> list[Outcome]:
    """Read all outcomes of a folder, oldest run first; raises HarnessError for an invalid line."""
    return list(record.read_all(folder, Outcome))
