"""A trial of a change: run the suites, or a command of the harness, with it."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.model.contract import Contract
from conformance.model.verdict import Verdict
from conformance.run.check import Check, digest
from conformance.run.context import Run
from conformance.selfcheck import seeding
from conformance.selfcheck.change import HARNESS, Change
from conformance.selfcheck.outcome import TEXT_CHARACTERS, Outcome, Result, Said, judge, said
from conformance.util import paths
from conformance.workers import sessions

COMMAND_SECONDS = 300
"""Deadline for a command in a copy of the project; they take seconds."""


def markers(contract: Contract, change: Change) -> tuple[str, ...]:
    """Return the markers of the tested features, each once."""
    return tuple(dict.fromkeys(contract.feature(one.feature).marker for one in change.asks))


def suites(contract: Contract, change: Change) -> tuple[Path, ...]:
    """Return the files of the suites to run."""
    return tuple(paths.SUITES / f"test_{marker}.py" for marker in markers(contract, change))


def question(contract: Contract, change: Change) -> str:
    """Return a digest of the contract and the suites to run."""
    return digest(paths.CONTRACT, *suites(contract, change))


def ask(run: Run, change: Change, turn: int, progress: Callable[[str], None]) -> Outcome:
    """Test a change once, and remove it completely.

    Raises:
        HarnessError: the change cannot be made, or the engine no longer answers.
        KeyboardInterrupt: the user interrupted it.
    """
    started = time.monotonic()
    answers: tuple[Said, ...] = ()
    if why := _lacking(run, change):
        result = Result.NOT_RUN
    else:
        with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
            answers = _command(change, Path(folder)) if change.command else _suites(run, change, Path(folder), progress)
        result, why = judge(change, answers)
    return Outcome(
        run=run.id,
        host=run.host,
        image=run.image,
        mode=change.mode,
        change=change.id,
        digest=change.digest,
        suites=question(run.contract, change),
        turn=turn,
        result=result,
        why=why,
        said=answers,
        seconds=round(time.monotonic() - started, 1),
    )


def _lacking(run: Run, change: Change) -> str:
    """Return the requirement of a change that the host lacks; empty if there is none."""
    if "kvm" in change.needs and not run.kvm.usable:
        return run.kvm.seen
    return "it needs a lab (--host lab)" if "lab" in change.needs and not run.disposable else ""


def _suites(run: Run, change: Change, scratch: Path, progress: Callable[[str], None]) -> tuple[Said, ...]:
    def wanted(question: Check, item: pytest.Item) -> bool:
        essential = item.get_closest_marker("essential") is not None
        return any(one.includes(question.feature.id, question.check, essential=essential) for one in change.asks)

    with seeding.seeded(run, change, scratch, progress) as (part, contract):
        places = [str(file) for file in suites(run.contract, change)]
        named = " or ".join(markers(run.contract, change))  # slow checks run only if -m names them
        records = sessions.run_within(
            part, [*places, f"--libvirt-mode={change.mode}", f"--libvirt-contract={contract}", "-m", named], wanted
        )
    run.require()  # an engine that went away is not the change's effect
    return said(records)


def _command(change: Change, scratch: Path) -> tuple[Said, ...]:
    """Run a change's command in a changed copy of the project, and return whether it noticed."""
    copy = seeding.copy_of_project(change, scratch)
    words = [sys.executable, "-m", *change.command]
    output = f"still running after {COMMAND_SECONDS} s"
    noticed = False
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            words,
            cwd=copy,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        output, noticed = done.stdout + done.stderr, done.returncode != 0
    return (
        Said(
            feature=HARNESS,
            check=" ".join(change.command),
            verdict=Verdict.FAILS if noticed else Verdict.WORKS,
            text=output[-TEXT_CHARACTERS:],
        ),
    )
