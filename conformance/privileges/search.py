"""The search: chooses the configurations to start, and interprets their answers.

A configuration is a mode without some of its parts. A part is an exposure, a default capability of the engine, or a
trade: a step of the image that needs privileges and that a switch turns off.

The search knows neither engine nor image. It names the next configuration that it needs, and learns answers, new ones
and recorded ones; the same answers always lead to the same findings. Four steps:

1. test every feature in the whole mode, and in the mode without one part at a time;
2. repeat each removal that broke a feature, then the whole mode: a need is confirmed if the removal breaks the feature
   twice, and the whole mode works afterwards;
3. find a smallest set for all features together, from a believed set, or, if that is not enough, from the needs of
   step 1 with every trade given up;
4. find a smallest set for each feature, from its needs within the set of step 3.

Where two answers differ, for example because a loaded host did not boot a guest in time, a third one decides.

A set is smallest if every further removal was tried and breaks it (1-minimal: Zeller and Hildebrandt, "Simplifying
and isolating failure-inducing input", 2002). Answers about one configuration prove nothing about another: two parts
may replace each other, and an additional part may break a feature. Where a guess is not enough, bisection finds the
missing parts one after the other (Junker, "QuickXplain: preferred explanations and relaxations for over-constrained
problems", 2004).
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.privileges.answers import Answers, Features, Parts


@dataclass(frozen=True)
class Want:
    """The next configuration that the search needs.

    Attributes:
        without: its missing parts.
        features: the features to test in it.
        step: the number of the step, of four.
        left_in_step: the most starts that are left in this step, including this one; more follow only if a guess was
            wrong.
        left: the most starts that are left in all steps.
    """

    without: Parts
    features: Features
    step: int
    left_in_step: int
    left: int


@dataclass(frozen=True)
class Findings:
    """The findings from the answers so far.

    Attributes:
        broken: features that do not work in the whole mode.
        needs: for each feature the parts whose removal from the whole mode breaks it.
        confirmed: whether each of these removals broke its feature twice, and the whole mode worked after it.
        least: the smallest set for all features that work in the whole mode; None while it is not known.
        least_for: the smallest set of each feature that has one.
        starts: how many configurations were started.
        complete: whether the search is finished.
    """

    broken: Features
    needs: dict[str, Parts]
    confirmed: dict[tuple[str, str], bool]
    least: Parts | None
    least_for: dict[str, Parts]
    starts: int
    complete: bool


Step = Generator[tuple[Parts, Features], None, None]
"""Yields the next configuration and the features to test in it."""


@dataclass
class Search:
    """A search in one mode on one host.

    Args:
        parts: the removable parts, the most dangerous ones first.
        trades: the trades among them.
        features: the features to test.
        believed: a set that may be enough for all features, such as another host's smallest one; none if empty.
    """

    parts: Sequence[str]
    trades: Parts
    features: Sequence[str]
    believed: Parts = frozenset()
    least: Parts | None = None
    least_for: dict[str, Parts] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    _passed: int = 0

    def learn(self, without: Iterable[str], works: Mapping[str, bool | None]) -> None:
        """Take the answers of one start; see :meth:`Answers.learn`."""
        self.answers.learn(without, works)

    def wants(self) -> Want | None:
        """Return the next configuration to test, or None at the end of the search."""
        self.least, self.least_for = None, {}
        for number, step in enumerate((self._one_at_a_time(), self._again(), self._together(), self._apart()), start=1):
            self._passed = 0
            for without, features in step:
                bounds = self._bounds()
                here = max(1, bounds[number - 1] - self._passed + 1)
                return Want(without, features, number, here, here + sum(bounds[number:]))
        return None

    def findings(self) -> Findings:
        """Return the findings from the answers so far."""
        complete = self.wants() is None
        needs = {one: self._needs(one) for one in self._working()}
        return Findings(
            broken=frozenset(one for one in self.features if self.answers.results(frozenset(), one) == [False]),
            needs=needs,
            confirmed={
                (one, part): self.answers.confirmed(one, part) for one, found in needs.items() for part in found
            },
            least=self.least,
            least_for=dict(self.least_for),
            starts=len(self.answers.order),
            complete=complete,
        )

    # --------------------------------------------------------------------------------------- steps

    def _one_at_a_time(self) -> Step:
        yield from self._ask(frozenset(), frozenset(self.features))
        for part in self.parts:
            yield from self._ask(frozenset({part}), self._working())

    def _again(self) -> Step:
        """Repeat each removal that broke a feature, and then the whole mode."""
        suspects = {part: self._broken_by(part) for part in self.parts if self._broken_by(part)}
        for part, features in suspects.items():
            yield from self._ask(frozenset({part}), features, times=2)
        if suspects:
            yield from self._ask(frozenset(), frozenset().union(*suspects.values()), times=2)
        # A removal that was tested after the last start of the whole mode needs another start of it.
        later = frozenset(
            one for part, broken in suspects.items() for one in broken if not self.answers.put_back(one, part)
        )
        for one in later:
            yield from self._ask(frozenset(), later, times=len(self.answers.results(frozenset(), one)) + 1)

    def _together(self) -> Step:
        working = self._working()
        if not working:
            return
        guess = self._guess()
        if self.believed:
            yield from self._ask(self._kept(self.believed), working, until_one_fails=True)
            if self.answers.all_work(self._kept(self.believed), working):
                guess = self.believed
        self.least = yield from self._least(frozenset(self.parts), guess, working)

    def _apart(self) -> Step:
        if self.least is None:
            return
        guesses = {one: self._guess_for(one) for one in sorted(self._working(), key=self.features.index)}
        for feature, guess in guesses.items():
            alike = [one for one, other in guesses.items() if other == guess]
            passed = self._passed
            self.least_for[feature] = yield from self._least(
                self.least, guess, frozenset({feature}), beside=frozenset(alike)
            )
            if feature != alike[0]:  # whose starts it shared
                self._passed = passed

    def _least(
        self, start: Parts, guess: Parts, features: Features, *, beside: Features = frozenset()
    ) -> Generator[tuple[Parts, Features], None, Parts]:
        """Find a smallest set within a set that is enough.

        Args:
            start: a set in which the features work.
            guess: a subset of it that may be enough.
            features: the features that have to work.
            beside: features to test in the same starts, since the search needs their answers later.
        """
        kept = yield from self._enough(start, guess, features, beside)
        before = None
        while kept != before:
            before = kept
            for part in sorted(kept, key=self.parts.index):
                without = self._kept(kept - {part})
                # Features that broke without this part in the whole mode probably break again. If they are few, test
                # them alone first: the guests of the others would boot, which takes long.
                likely = features & self._broken_by(part)
                if 0 < 2 * len(likely) <= len(features):
                    yield from self._ask(without, likely, beside=beside & self._broken_by(part), until_one_fails=True)
                    if not self.answers.all_work(without, likely):
                        continue
                yield from self._ask(without, features, beside=beside, until_one_fails=True)
                if self.answers.all_work(without, features):
                    kept -= {part}
        # Repeat needs that the whole mode did not show, and then the set itself.
        surprises = kept - frozenset().union(*(self._needs(one) for one in features))
        for part in sorted(surprises, key=self.parts.index):
            yield from self._ask(self._kept(kept - {part}), features, times=2, beside=beside, until_one_fails=True)
        if surprises:
            yield from self._ask(self._kept(kept), features, times=2, beside=beside)
        return kept

    def _enough(
        self, start: Parts, guess: Parts, features: Features, beside: Features
    ) -> Generator[tuple[Parts, Features], None, Parts]:
        """Add the missing parts to a guess, from a set that is enough."""
        kept, enough = guess, start
        while kept != enough:
            yield from self._ask(self._kept(kept), features, beside=beside, until_one_fails=True)
            if self.answers.all_work(self._kept(kept), features):
                break
            # Without the first ``gone`` of the rest it works, and without the first ``too_many`` it does not.
            rest = sorted(enough - kept, key=self.parts.index)
            gone, too_many = 0, len(rest)
            while too_many - gone > 1:
                middle = (gone + too_many) // 2
                without = self._kept(kept.union(rest[middle:]))
                yield from self._ask(without, features, beside=beside, until_one_fails=True)
                gone, too_many = (middle, too_many) if self.answers.all_work(without, features) else (gone, middle)
            enough = kept.union(rest[gone:])
            kept |= {rest[gone]}
        return kept

    # ---------------------------------------------------------------------------------- small things

    def _guess(self) -> Parts:
        """Return a set that may be enough for all features: the needs of each, without the trades."""
        return frozenset().union(*(self._needs(one) for one in self._working())) - self.trades

    def _guess_for(self, feature: str) -> Parts:
        """Return a set that may be enough for a feature: the parts whose removal from the set for all breaks it.

        Where that was not tested, removals from the whole mode count.
        """

        def needed(part: str) -> bool:
            works = self.answers.all_work(self._kept(least - {part}), frozenset({feature}))
            return self.answers.breaks(frozenset({part}), feature) if works is None else not works

        least = self.least or frozenset()
        return frozenset(part for part in least if needed(part))

    def _kept(self, kept: Parts) -> Parts:
        """Return the missing parts of a configuration that keeps these."""
        return frozenset(self.parts) - kept

    def _ask(
        self,
        without: Parts,
        features: Features,
        times: int = 1,
        *,
        beside: Features = frozenset(),
        until_one_fails: bool = False,
    ) -> Step:
        """Yield a configuration if answers about it are missing.

        Args:
            without: its missing parts.
            features: the features that need answers.
            times: the number of answers for each feature.
            beside: features to test too, if there is a start.
            until_one_fails: one feature that fails makes further answers unnecessary.
        """
        self._passed += 1
        wanted = frozenset(one for one in features if not self.answers.answered(without, one, times))
        if until_one_fails and any(self.answers.breaks(without, one) for one in features - wanted):
            return
        if wanted:
            yield without, wanted | frozenset(one for one in beside if not self.answers.answered(without, one, times))

    def _working(self) -> Features:
        return frozenset(one for one in self.features if self.answers.all_work(frozenset(), frozenset({one})))

    def _broken_by(self, part: str) -> Features:
        return frozenset(one for one in self._working() if self.answers.breaks(frozenset({part}), one))

    def _needs(self, feature: str) -> Parts:
        return frozenset(part for part in self.parts if self.answers.breaks(frozenset({part}), feature))

    def _bounds(self) -> list[int]:
        """Return the most starts of each step, as far as is known."""
        count = len(self.parts)
        asked = frozenset() in self.answers and all(
            self.answers.results(frozenset({part}), one) for part in self.parts for one in self._working()
        )
        broken = sum(bool(self._broken_by(part)) for part in self.parts) if asked else count
        together = max(len(self._guess()), len(self.believed)) if asked else count
        guesses = {self._guess_for(one) for one in self._working()} if self.least is not None else None
        apart = (
            sum(_tries(len(guess)) for guess in guesses)
            if guesses is not None
            else len(self.features) * _tries(together)
        )
        return [count + 1, broken + 1, bool(self.believed) + _tries(together), apart]


def _tries(size: int) -> int:
    """Return the most starts that confirm a guess of ``size`` parts as a smallest set.

    One with the guess, up to two without each part, and one repetition of each and of the whole.
    """
    return 1 + 2 * size + size + 1


def starts_apart(search: Search, findings: Findings) -> int:
    """Return the number of starts for the same findings if each feature is searched alone.

    Simulates these searches, with an image that has the needs that were found.
    """
    return sum(_starts_alone(search, findings, feature) for feature in findings.least_for)


def _starts_alone(search: Search, findings: Findings, feature: str) -> int:
    alone = Search(search.parts, search.trades, [feature])
    count = 0
    while want := alone.wants():
        kept = frozenset(search.parts) - want.without
        traded = not kept & search.trades
        needed = findings.least_for[feature] if traded else findings.needs[feature]
        alone.learn(want.without, {feature: kept >= needed})
        count += 1
    return count
