"""A measurement of mutants: what runs, what is recorded, and what is not run again, without an engine."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.errors import EngineError, HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Host, Image
from conformance.model.verdict import Verdict
from conformance.mutation import command, concern, outcome, trial
from conformance.mutation.concern import Concern, Concerns, Equivalent
from conformance.mutation.mutant import Mutant
from conformance.mutation.outcome import Outcome, Result
from conformance.selfcheck import helpers
from conformance.selfcheck.outcome import Said
from conformance.util.progress import Progress

FIRST = Mutant("setting", "config/qemu.conf", "user", "removed", "QEMU runs as root")
SECOND = Mutant("setting", "config/qemu.conf", "group", "removed", "QEMU has the group root")
EQUAL = Mutant("setting", "config/qemu.conf", "comment", "removed", "no comment")
CONCERNS = Concerns(
    concerns=(Concern(features=("api",)),), equivalent=(Equivalent(id=EQUAL.id, reason="comments mean nothing"),)
)


class Suites:
    """In place of the suites: answers, or raises, and knows which mutants ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.answer: Said | Exception = Said(feature="api", check="test_a", verdict=Verdict.WORKS)

    def __call__(self, _run: Any, mutant: Mutant, *_: Any) -> tuple[Said, ...]:
        self.ran.append(mutant.id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return (self.answer,)


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> Suites:
    made = Suites()
    run = SimpleNamespace(
        id="20260101T000000Z-1",
        contract=contract,
        host_name="here",
        host=Host(name="here", fingerprint={}),
        image=Image(tag="x", id="sha256:1", base="debian"),
        peer_network=None,
        require=lambda: None,
    )

    @contextlib.contextmanager
    def unrecorded(*_: Any, **__: Any) -> Iterator[Any]:
        yield run

    monkeypatch.setattr(command, "unrecorded", unrecorded)
    monkeypatch.setattr(concern, "load", lambda: CONCERNS)
    monkeypatch.setattr(trial, "_suites", made)
    monkeypatch.setattr(helpers, "LOOK_SECONDS", 0.01)
    return made


def measure(folder: Path, *mutants: Mutant, deadline: float | None = None) -> list[Outcome]:
    return command.mutate(mutants, Progress(quiet=True), folder=folder, deadline=deadline)


def test_each_outcome_is_recorded_and_not_tested_again(suites: Suites, tmp_path: Path) -> None:
    first = measure(tmp_path, FIRST)
    again = measure(tmp_path, FIRST, SECOND)
    assert [one.result for one in again] == [Result.SURVIVED, Result.SURVIVED]
    assert suites.ran == [FIRST.id, SECOND.id]
    assert outcome.read(tmp_path) == [*first, again[1]]


def test_a_mutant_is_tested_again_when_it_or_its_checks_change(
    suites: Suites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(tmp_path, FIRST)
    other = Mutant(**{**vars(FIRST), "files": {"config/qemu.conf": "another line"}})
    measure(tmp_path, other)
    monkeypatch.setattr(trial, "digest", lambda *_: "other checks")
    measure(tmp_path, FIRST)
    assert suites.ran == [FIRST.id] * 3


def test_an_equivalent_mutant_does_not_run(suites: Suites, tmp_path: Path) -> None:
    assert measure(tmp_path, EQUAL) == []
    assert suites.ran == []


def test_no_mutant_begins_after_the_deadline(suites: Suites, tmp_path: Path) -> None:
    assert measure(tmp_path, FIRST, deadline=time.time() - 1) == []
    assert suites.ran == []


def test_the_outcome_names_the_check_and_its_failure(suites: Suites, tmp_path: Path) -> None:
    suites.answer = Said(feature="api", check="test_a", verdict=Verdict.FAILS, text="no answer\nlog")
    (found,) = measure(tmp_path, FIRST)
    assert (found.result, found.by, found.why, found.start) == (Result.KILLED, "api::test_a", "no answer", False)


def test_a_mutant_that_cannot_be_built_is_invalid(suites: Suites, tmp_path: Path) -> None:
    suites.answer = HarnessError("the build of it failed")
    (found,) = measure(tmp_path, FIRST)
    assert (found.result, found.why, found.checks) == (Result.INVALID, "the build of it failed", 0)


def test_an_engine_that_is_gone_ends_the_measurement(suites: Suites, tmp_path: Path) -> None:
    suites.answer = EngineError("no engine answers")
    with pytest.raises(HarnessError, match=f"{FIRST.id}: no engine answers"):
        measure(tmp_path, FIRST)
    assert outcome.read(tmp_path) == []


def test_the_summary_lists_survivors(suites: Suites, tmp_path: Path) -> None:
    text = command.summary([FIRST], measure(tmp_path, FIRST))
    assert f"{FIRST.id} survived: QEMU runs as root" in text
    assert "0 killed, 1 survived, 0 invalid of 1" in text
