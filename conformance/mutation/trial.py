"""A trial of a mutant: run the checks that have to do with it, until one notices."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conformance.errors import EngineError, HarnessError
from conformance.model.contract import Contract
from conformance.mutation import order, realisation
from conformance.mutation.concern import Concern, Concerns
from conformance.mutation.mutant import Mutant
from conformance.mutation.outcome import Outcome, Result, failed_to_start, first_line, judge
from conformance.run.check import Check, digest
from conformance.run.context import Run
from conformance.selfcheck import seeding
from conformance.selfcheck.outcome import Said, said
from conformance.util import paths
from conformance.workers import sessions

READY_SECONDS = 30.0
"""Deadline for libvirt after the start: a container that answers does so within 5 s."""


def markers(contract: Contract, concern: Concern) -> tuple[str, ...]:
    """Return the markers of a concern's features, each once."""
    return tuple(dict.fromkeys(contract.feature(one.feature).marker for one in order.asks(concern)))


def question(contract: Contract, concern: Concern) -> str:
    """Return a digest of everything that decides about a mutant of this concern, beside the image."""
    return digest(paths.CONTRACT, *(paths.SUITES / f"test_{one}.py" for one in markers(contract, concern)))


def ask(
    run: Run, mutant: Mutant, concerns: Concerns, before: Sequence[Outcome], progress: Callable[[str], None]
) -> Outcome:
    """Test a mutant, and remove it completely.

    Args:
        run: the run.
        mutant: the mutant.
        concerns: the checks that have to do with it.
        before: earlier outcomes, which decide about the order of the checks.
        progress: gets each step.

    Raises:
        EngineError: the engine no longer answers.
        KeyboardInterrupt: the user interrupted it.
    """
    started = time.monotonic()
    concern = concerns.of_mutant(mutant)
    answers: tuple[Said, ...] = ()
    noticed: Said | None = None
    try:
        answers = _suites(run, mutant, concern, concerns.slow, before, progress)
        result, noticed = judge(answers)
        why = first_line(noticed.text) if noticed else ""
    except EngineError:
        raise
    except HarnessError as error:
        run.require()  # an engine that went away is not the mutant's effect
        result, why = Result.INVALID, first_line(error.message)
    return Outcome(
        run=run.id,
        host=run.host,
        image=run.image,
        mode=concern.mode,
        mutant=mutant.id,
        kind=mutant.kind,
        file=mutant.file,
        digest=mutant.digest,
        suites=question(run.contract, concern),
        result=result,
        by=f"{noticed.feature}::{noticed.check}" if noticed else "",
        start=noticed is not None and failed_to_start(noticed.text),
        why=why,
        checks=len(answers),
        seconds=round(time.monotonic() - started, 1),
    )


def _suites(
    run: Run,
    mutant: Mutant,
    concern: Concern,
    slow: Sequence[str],
    before: Sequence[Outcome],
    progress: Callable[[str], None],
) -> tuple[Said, ...]:
    def wanted(check: Check, _item: pytest.Item) -> bool:
        return order.includes(concern, slow, check.feature.id, check.check)

    named = markers(run.contract, concern)
    with (
        tempfile.TemporaryDirectory(prefix="conformance-") as folder,
        realisation.realised(run, mutant, progress) as built,
    ):
        part = seeding.part_of(
            run,
            Path(folder),
            image=run.image.model_copy(update={"id": built}),
            ready_seconds=min(run.ready_seconds, READY_SECONDS),
        )
        records = sessions.run_within(
            part,
            [
                *(str(paths.SUITES / f"test_{one}.py") for one in named),
                *(f"--libvirt-mode={concern.mode}", "-m", " or ".join(named), "--exitfirst"),
            ],
            wanted,
            place=order.places(mutant, concern, before),
        )
    run.require()  # an engine that went away is not the mutant's effect
    return said(records)
