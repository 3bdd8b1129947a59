"""Starts a configuration, and lets the suites judge it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.errors import EngineError
from conformance.model.record import Record
from conformance.model.verdict import EMULATIONS_FAULT, Verdict, gravest
from conformance.privileges.configuration import Answer, Configuration
from conformance.run.context import Run
from conformance.util import paths
from conformance.workers import sessions

TRIES = 2
"""Number of starts if an emulated host crashes a guest's kernel, which is rare."""

ERROR_CHARACTERS = 700
"""Limit of an error's text in a record."""


@dataclass(frozen=True)
class ConfigurationRunner:
    """Starts configurations of one mode.

    Args:
        run: the engine, the image and the media.
        mode: the mode's id.
    """

    run: Run
    mode: str

    def __call__(self, without: Sequence[str], features: Sequence[str]) -> Configuration:
        """Start a configuration once, and test features in it.

        Args:
            without: ids of the missing parts.
            features: ids of the features; all if empty.

        Raises:
            HarnessError: a test broke for a reason outside of the image.
            KeyboardInterrupt: the user interrupted it.
        """
        started = time.monotonic()
        records = self._session(without, features)
        answers: dict[str, Answer] = {}
        for feature in dict.fromkeys(one.feature for one in records):
            answers[feature] = answer([one for one in records if one.feature == feature])
        (warnings,) = self.run.warnings.values()
        return Configuration(
            run=self.run.id,
            host=self.run.host,
            image=self.run.image,
            mode=self.mode,
            without=tuple(without),
            answers=answers,
            warnings=tuple(warnings),
            seconds=round(time.monotonic() - started, 1),
        )

    def _session(self, without: Sequence[str], features: Sequence[str]) -> list[Record]:
        markers = [self.run.contract.feature(one).marker for one in features]
        wanted = "essential" + (f" and ({' or '.join(markers)})" if markers else "")
        words = [
            *paths.TESTS,
            "-m",
            wanted,
            f"--libvirt-mode={self.mode}",
            *(f"--libvirt-without={one}" for one in without),
        ]
        for _ in range(TRIES):
            self.run.warnings.clear()
            records = sessions.run_within(self.run, words)
            if not any(EMULATIONS_FAULT in one.reason for one in records):
                break
        broken = next((one for one in records if one.verdict is Verdict.ERROR), None)
        if broken:
            raise EngineError(f"{broken.check}: {broken.reason}")
        return records


def answer(records: Sequence[Record]) -> Answer:
    """Return the answer of a feature from its checks' records."""
    verdict = gravest(one.verdict for one in records)
    telling = next(one for one in records if one.verdict is verdict)
    match verdict:
        case Verdict.WORKS | Verdict.FIXED:
            return Answer(verdict="works")
        case Verdict.FAILS | Verdict.KNOWN_FAILURE:
            error = str(telling.evidence.get("error", ""))[:ERROR_CHARACTERS]
            return Answer(verdict="fails", cause=telling.cause, reason=telling.reason, error=error)
        case _:
            return Answer(verdict="unsupported", reason=telling.reason)
