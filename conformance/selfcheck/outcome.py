"""What came of a change: the judgement, and the record of it."""

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
"""Where outcomes are kept."""

TEXT_CHARACTERS = 1500
"""As much of a failure's text as an outcome keeps."""


class Result(StrEnum):
    """What came of it: the first three of a defect, the next two of a benign change."""

    CAUGHT = "caught"
    WRONG = "caught for a wrong reason"
    MISSED = "missed"
    QUIET = "quiet"
    ALARM = "false alarm"
    NOT_RUN = "not run"

    @property
    def good(self) -> bool:
        """Say whether the harness did as it should, or was not asked."""
        return self in (Result.CAUGHT, Result.QUIET, Result.NOT_RUN)


class Said(Data):
    """What one check said.

    Attributes:
        feature: whose check; :data:`HARNESS` for a command.
        check: its name, or the command.
        verdict: what it found.
        text: why, in full up to a limit.
    """

    feature: str
    check: str
    verdict: Verdict
    text: str = ""


class Outcome(Dated):
    """What came of one change.

    Attributes:
        change: its id.
        digest: of its file.
        suites: of all that was asked: another one is another question.
        turn: which of its repetitions.
        result: the judgement.
        why: what it rests on, in one line; empty where all is as it should be.
        said: what each check said.
        seconds: how long all of it took.
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
    """Return what records say."""
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
    """Say what came of a change, and why it is not as it should be.

    A defect is caught where everybody who has to notice it does, with the verdict and the cause that belong to it, and
    nobody else is blamed: no other feature, not the harness itself, and no check of the same feature that is named as
    quiet.
    """
    blamed = [one for one in answers if one.verdict.bad and not _has_part(change, one)]
    if change.benign:
        return (Result.ALARM, _told(blamed[0])) if blamed else (Result.QUIET, "")
    unmet = [one for one in change.notice if not any(_meets(one, each) for each in answers)]
    if not unmet and not blamed:
        return Result.CAUGHT, ""
    if not any(one.verdict.bad or _as_wanted(change, one) for one in answers):
        return Result.MISSED, f"nobody noticed: {', '.join(one.by for one in unmet)}"
    why = [f"{one.by} did not say {one.verdict.words}, {one.cause!r}" for one in unmet]
    why += [f"blamed: {_told(one)}" for one in blamed]
    return Result.WRONG, "; ".join(why)


def _has_part(change: Change, answer: Said) -> bool:
    """Say whether a check may notice a defect: its feature has to, and it is not named among those that are quiet."""
    quiet = any(ask.check and ask.includes(answer.feature, answer.check, essential=True) for ask in change.quiets)
    return answer.feature in change.features and not quiet


def _meets(notice: Notice, answer: Said) -> bool:
    """Say whether an answer is what a defect is to be noticed by."""
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
    """Read all outcomes of a folder, oldest run first; raises HarnessError where a line is none."""
    return list(record.read_all(folder, Outcome))
