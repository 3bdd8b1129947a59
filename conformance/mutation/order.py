"""The order of the checks of a mutant: those most likely to notice it first."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from conformance.mutation.concern import Concern
from conformance.mutation.mutant import Mutant
from conformance.mutation.outcome import Outcome
from conformance.run.check import Check
from conformance.selfcheck.change import Ask

OWN, FILE, KIND = 1000, 10, 1
"""Weights of an earlier kill: of this mutant, of one in the same file, and of one of the same kind."""


def asks(concern: Concern) -> tuple[Ask, ...]:
    """Return the checks of a concern, as whole features or single checks."""
    return tuple(Ask(*one.partition("::")[::2]) for one in concern.features)


def includes(concern: Concern, slow: Iterable[str], feature: str, check: str) -> bool:
    """Return whether a check runs for a concern: a slow one only by its name."""
    name = check.partition("[")[0]
    named = {f"{one.feature}::{one.check}" for one in asks(concern) if one.check}
    if f"{feature}::{name}" in named or f"{feature}::{check}" in named:
        return True
    return f"{feature}::{name}" not in slow and any(one.feature == feature and not one.check for one in asks(concern))


def places(mutant: Mutant, concern: Concern, outcomes: Iterable[Outcome]) -> Callable[[Check], float]:
    """Return a function that gives each check its place: earlier kills first, then the concern's order."""
    kills = learned(mutant, outcomes)
    features = [one.feature for one in asks(concern)]
    return lambda check: place(kills, features, check.feature.id, check.check)


def place(kills: Counter[str], features: Sequence[str], feature: str, check: str) -> float:
    """Return the place of a check: below 0 with earlier kills, else its feature's place in the concern."""
    return -float(kills[f"{feature}::{check}"]) or float(features.index(feature))


def learned(mutant: Mutant, outcomes: Iterable[Outcome]) -> Counter[str]:
    """Return the weight of each check that killed this mutant or a similar one."""
    kills: Counter[str] = Counter()
    for one in outcomes:
        if one.by and not one.start:
            same = one.mutant == mutant.id
            kills[one.by] += OWN if same else FILE * (one.file == mutant.file) + KIND * (one.kind == mutant.kind)
    return kills
