"""A measurement of mutants on one host, from the first to the last."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from conformance.errors import HarnessError
from conformance.model import contract, record
from conformance.mutation import concern, image_source, inspection, observation, outcome, score, trial
from conformance.mutation.concern import Concerns
from conformance.mutation.mutant import Mutant
from conformance.mutation.outcome import Outcome, Result
from conformance.run.context import Run
from conformance.run.preparation import unrecorded
from conformance.selfcheck import helpers
from conformance.util.progress import Progress

WORKER = "conformance.mutation.worker"


def mutate(
    mutants: Sequence[Mutant],
    progress: Progress,
    *,
    folder: Path = outcome.FOLDER,
    tag: str | None = None,
    host_name: str | None = None,
    host_facts: Mapping[str, str] = MappingProxyType({}),
    at_once: int = 1,
    deadline: float | None = None,
) -> list[Outcome]:
    """Test each mutant; recorded outcomes of the same mutant, suites and host are used again.

    Args:
        mutants: the mutants; those that no run decides are left out.
        progress: gets each mutant.
        folder: the folder of the records; each outcome is recorded at once.
        tag: the image; the project's own by default.
        host_name: the host's name in records; made from its engine by default.
        host_facts: further facts of the host for records.
        at_once: number of mutants to test in parallel.
        deadline: no mutant begins after this time, in seconds since the epoch.

    Returns:
        The outcomes, in the order of the mutants; fewer after a deadline.

    Raises:
        HarnessError: the machine cannot run it; records stay.
        ContractError: a concern is invalid or missing.
    """
    claims = contract.load()
    concerns = concern.load()
    tested = testable(mutants, concerns)
    for mode in dict.fromkeys(concerns.of_mutant(one).mode for one in tested):
        claims.mode(mode)
    with unrecorded(
        claims, progress, tag=tag, host_name=host_name, host_facts=host_facts, ready_seconds=trial.READY_SECONDS
    ) as run:
        measurement = _Measurement(run, tested, concerns, folder, progress, deadline)
        by = min(at_once, measurement.left) - 1
        if by > 0:
            _ = run.peer_network  # made once here, before all helpers make it
        words = (str(folder.resolve()), tag or "", str(deadline or ""), *(one.id for one in tested))
        with helpers.helped(max(by, 0), WORKER, words, progress):
            return measurement.take()


def inspect(progress: Progress, *, tag: str | None = None, host_name: str | None = None) -> None:
    """Observe the image at run time, for mutants of its behaviour; raises as :func:`mutate`."""
    claims = contract.load()
    with unrecorded(
        claims, progress, tag=tag, host_name=host_name, host_facts={}, ready_seconds=trial.READY_SECONDS
    ) as run:
        observation.save(inspection.inspect(run, concern.load(), progress))
    progress.clear()


def testable(mutants: Sequence[Mutant], concerns: Concerns) -> list[Mutant]:
    """Return the mutants whose outcome a run decides: not the equivalent ones, nor those that no check reaches."""
    files, observed = image_source.read(), observation.load()
    return [one for one in mutants if not concerns.reason(one) and not score.unreached(one, files, concerns, observed)]


class _Measurement:
    """The mutants of one run, and their outcomes."""

    def __init__(
        self,
        run: Run,
        mutants: Sequence[Mutant],
        concerns: Concerns,
        folder: Path,
        progress: Progress,
        deadline: float | None,
    ) -> None:
        self._run = run
        self._mutants = mutants
        self._concerns = concerns
        self._folder = folder
        self._progress = progress
        self._deadline = deadline
        self._numbers = {one.id: number for number, one in enumerate(mutants, start=1)}
        self._known: list[Outcome] = []
        self._read_at: tuple[tuple[str, int], ...] | None = None

    @property
    def left(self) -> int:
        """The number of mutants without an outcome."""
        return sum(self._answer(one) is None for one in self._mutants)

    def take(self) -> list[Outcome]:
        """Test mutants without an outcome that no other process is testing, until the deadline."""
        found = helpers.share(
            self._mutants,
            name=lambda one: f"{self._folder.resolve()} {self._run.host_name} {one.id}",
            answer=self._answer,
            test=self._test,
            stopped=lambda: self._deadline is not None and time.time() > self._deadline,
        )
        self._progress.clear()
        return found

    def _test(self, mutant: Mutant) -> Outcome:
        self._progress(f"{self._numbers[mutant.id]} of {len(self._mutants)}: {mutant.id}: {mutant.sentence}")
        try:
            made = trial.ask(self._run, mutant, self._concerns, self._outcomes(), self._progress)
        except HarnessError as error:
            raise HarnessError(f"{mutant.id}: {error.message}", error.remedy) from error
        record.append(self._folder / record.file_name(self._run.host_name, self._run.id), made)
        self._progress(f"{mutant.id}: {made.result} in {made.seconds} s: {made.by} {made.why}")
        return made

    def _answer(self, mutant: Mutant) -> Outcome | None:
        """Return the newest outcome of the same mutant under the same checks on this host, if any."""
        suites = trial.question(self._run.contract, self._concerns.of_mutant(mutant))
        wanted = (mutant.id, mutant.digest, suites, self._run.host.identity)
        return next(
            (
                one
                for one in reversed(self._outcomes())
                if (one.mutant, one.digest, one.suites, one.host.identity) == wanted
            ),
            None,
        )

    def _outcomes(self) -> list[Outcome]:
        """Return all outcomes; read anew only if a file has grown."""
        files = tuple((one.name, one.stat().st_size) for one in sorted(self._folder.glob("*.jsonl")))
        if files != self._read_at:
            self._known, self._read_at = outcome.read(self._folder), files
        return self._known


def summary(mutants: Sequence[Mutant], found: Sequence[Outcome]) -> str:
    """Summarise the outcomes: the survivors, and the counts."""
    sentences = {one.id: one.sentence for one in mutants}
    lines = [f"{one.mutant} survived: {sentences[one.mutant]}" for one in found if one.result is Result.SURVIVED]
    counts = ", ".join(f"{sum(one.result is result for one in found)} {result}" for result in Result)
    minutes = sum(one.seconds for one in found) / 60
    return "\n".join([*lines, f"{counts} of {len(mutants)}; {minutes:.0f} minutes of tests"])
