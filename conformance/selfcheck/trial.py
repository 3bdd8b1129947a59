"""Asking: what the suites, or a command of the harness, say of a change."""

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
"""For a command in a copy of the project; such as are worth asking take seconds."""


def markers(contract: Contract, change: Change) -> tuple[str, ...]:
    """Return the markers of the features that are asked, each once."""
    return tuple(dict.fromkeys(contract.feature(one.feature).marker for one in change.asks))


def suites(contract: Contract, change: Change) -> tuple[Path, ...]:
    """Return the files of the suites that are asked."""
    return tuple(paths.SUITES / f"test_{marker}.py" for marker in markers(contract, change))


def question(contract: Contract, change: Change) -> str:
    """Return what changes with the suites that are asked."""
    return digest(paths.CONTRACT, *suites(contract, change))


def ask(run: Run, change: Change, turn: int, progress: Callable[[str], None]) -> Outcome:
    """Ask about a change once, and leave nothing of it behind.

    Raises:
        HarnessError: the change cannot be made, or the engine went away.
        KeyboardInterrupt: somebody wants it to end.
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
    """Say what the host has not of what a change needs; nothing where it can be asked."""
    if "kvm" in change.needs and not run.kvm.usable:
        return run.kvm.seen
    return "it is seen on a lab only" if "lab" in change.needs and not run.disposable else ""


def _suites(run: Run, change: Change, scratch: Path, progress: Callable[[str], None]) -> tuple[Said, ...]:
    def wanted(question: Check, item: pytest.Item) -> bool:
        essential = item.get_closest_marker("essential") is not None
        return any(one.includes(question.feature.id, question.check, essential=essential) for one in change.asks)

    with seeding.seeded(run, change, scratch, progress) as (part, contract):
        places = [str(file) for file in suites(run.contract, change)]
        named = " or ".join(markers(run.contract, change))  # what takes long is asked where it is named only
        records = sessions.run_within(
            part, [*places, f"--mode={change.mode}", f"--contract={contract}", "-m", named], wanted
        )
    run.require()  # an engine that went away is nobody's defect
    return said(records)


def _command(change: Change, scratch: Path) -> tuple[Said, ...]:
    """Run a change's command in a copy of the project that has it, and say whether it noticed."""
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
