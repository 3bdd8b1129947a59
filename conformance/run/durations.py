"""Durations: the recorded seconds of checks, and the time that a run still takes."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from conformance.model import record
from conformance.util import paths

TRUSTED_SECONDS = 20.0
"""From so much recorded work on, the run's own pace corrects the recorded seconds."""

FILES = 30
"""As many of the newest files of records are read."""

LIMITS = (0.2, 5.0)
"""Limits of that correction: a few odd checks must not predict days."""


class Key(NamedTuple):
    """A check in a mode."""

    mode: str
    feature: str
    check: str


def recorded(host: str, results: Path | None = None) -> dict[Key, float]:
    """Return the newest recorded seconds of each check on a host; records that cannot be read do not count.

    Args:
        host: its name.
        results: a folder of records, beside the project's own and those of runs.
    """
    folders = [paths.RESULTS, *paths.ARTEFACTS.glob("*"), *([results] if results else [])]
    files = {file.resolve() for folder in folders for file in folder.glob(record.file_name(host, "*"))}
    found: dict[Key, float] = {}
    for file in sorted(files, key=lambda one: one.name)[-FILES:]:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            for one in map(json.loads, lines):
                if one["verdict"] not in ("unsupported", "not-run"):
                    found[Key(one["mode"], one["feature"], one["check"])] = float(one["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


class Estimate:
    """The time that a run still takes: from recorded seconds, else from the run's own checks.

    Args:
        planned: all checks of the run.
        known: recorded seconds (:func:`recorded`).
    """

    def __init__(self, planned: Sequence[Key], known: Mapping[Key, float]) -> None:
        elsewhere: dict[tuple[str, str], list[float]] = defaultdict(list)
        for key, seconds in known.items():
            elsewhere[key.feature, key.check].append(seconds)
        self._expected = {
            key: known.get(key, fmean(others) if (others := elsewhere.get((key.feature, key.check))) else None)
            for key in planned
        }
        self._waiting = set(planned)
        self._took: dict[Key, float] = {}

    def ended(self, key: Key, seconds: float) -> None:
        """Note that a check took so long."""
        self._waiting.discard(key)
        self._took[key] = seconds

    @property
    def left(self) -> float | None:
        """Return the seconds of all checks that have not ended; None if there are none, or nothing is known."""
        if not self._waiting:
            return None
        known = [seconds for key in self._waiting if (seconds := self._expected[key]) is not None]
        unknown = len(self._waiting) - len(known)
        typical = fmean(self._took.values()) if self._took else (fmean(known) if known else None)
        if unknown and typical is None:
            return None
        return sum(known) * self._correction() + unknown * (typical or 0.0)

    def _correction(self) -> float:
        """Return how much slower than recorded this run is."""
        compared = {key: seconds for key in self._took if (seconds := self._expected.get(key)) is not None}
        before = sum(compared.values())
        if before < TRUSTED_SECONDS:
            return 1.0
        return min(max(sum(self._took[key] for key in compared) / before, LIMITS[0]), LIMITS[1])
