"""The search: which configurations to start, and what their answers mean.

A configuration is a mode without some of its parts. A part is an exposure, a capability that the engine gives
without being asked, or a trade: what the image does unless a switch tells it not to, and what takes privileges.

The search knows neither engine nor image. It names the next configuration that it has to know about, and is told the
answers, new ones as well as recorded ones; from the same answers it always comes to the same findings. Four steps:

1. the whole mode, and the mode without one part at a time, asked for every feature;
2. each removal that broke something once more, and then the whole mode: broken twice, and mended by putting it back;
3. a smallest set for all features together, from what is believed to be enough, or, where that is not enough, from
   what step 1 found needed, with every trade given up;
4. a smallest set for each feature, from what step 3 found it needs of that set.

Where two answers about the same differ, as of a guest that a loaded host did not boot in time, a third one decides.

Smallest means that removing anything more breaks it, and that each such removal was tried (1-minimal: Zeller and
Hildebrandt, "Simplifying and isolating failure-inducing input", 2002). Nothing is concluded from answers about other
configurations: two parts may stand in for each other, and a part that is added may break a feature. Where a guess of
what is needed turns out not to be enough, what it lacks is found by bisection, one part after the other (Junker,
"QuickXplain: preferred explanations and relaxations for over-constrained problems", 2004).
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.privileges.answers import Answers, Features, Parts


@dataclass(frozen=True)
class Want:
    """A configuration that has to be known about.

    Attributes:
        without: what it lacks.
        features: what has to be asked in it.
        step: for which of the four steps.
        left_in_step: how many starts this step still takes at most, this one included; it takes more only where the
            guess of what is needed was wrong.
        left: how many all steps still take at most.
    """

    without: Parts
    features: Features
    step: int
    left_in_step: int
    left: int


@dataclass(frozen=True)
class Findings:
    """What was found, as far as the answers go.

    Attributes:
        broken: whatever a feature needs to be asked at all: features that do not work in the whole mode.
        needs: for each feature the parts whose removal from the whole mode breaks it.
        confirmed: whether each of these removals broke its feature twice, and the whole mode worked after it.
        least: the smallest set for all features that work in the whole mode; None while it is not known.
        least_for: the smallest set of each feature that has one.
        starts: how many configurations were started.
        complete: whether nothing is left to ask.
    """

    broken: Features
    needs: dict[str, Parts]
    confirmed: dict[tuple[str, str], bool]
    least: Parts | None
    least_for: dict[str, Parts]
    starts: int
    complete: bool


Step = Generator[tuple[Parts, Features], None, None]
"""Yields what has to be known before it can go on: in which configuration, about which features."""


@dataclass
class Search:
    """A search in one mode on one host.

    Args:
        parts: all that can be taken away, what one would rather do without first.
        trades: those of them that are given up for others.
        features: what is asked.
        believed: what may be enough for all of them, as another host's smallest set; nothing, if empty.
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
        """Return the next configuration that has to be known about, or None where nothing is left to ask."""
        self.least, self.least_for = None, {}
        for number, step in enumerate((self._one_at_a_time(), self._again(), self._together(), self._apart()), start=1):
            self._passed = 0
            for without, features in step:
                bounds = self._bounds()
                here = max(1, bounds[number - 1] - self._passed + 1)
                return Want(without, features, number, here, here + sum(bounds[number:]))
        return None

    def findings(self) -> Findings:
        """Return what the answers say so far."""
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
        """What broke once is asked once more, and then the whole mode, which came before all of it."""
        suspects = {part: self._broken_by(part) for part in self.parts if self._broken_by(part)}
        for part, features in suspects.items():
            yield from self._ask(frozenset({part}), features, times=2)
        if suspects:
            yield from self._ask(frozenset(), frozenset().union(*suspects.values()), times=2)
        # Where a removal was asked later than others, in a search that went on, so is the whole mode.
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
        """Find a set that is needed as a whole, within one that is enough.

        Args:
            start: a set in which the features work.
            guess: as much of it as is believed to be enough.
            features: what has to work.
            beside: asked in the same starts, as the same will have to be known about them.
        """
        kept = yield from self._enough(start, guess, features, beside)
        before = None
        while kept != before:
            before = kept
            for part in sorted(kept, key=self.parts.index):
                without = self._kept(kept - {part})
                # What the part's removal from the whole mode breaks is likely to break again. Where that is little, it
                # is asked without the rest, whose guests boot and take long.
                likely = features & self._broken_by(part)
                if 0 < 2 * len(likely) <= len(features):
                    yield from self._ask(without, likely, beside=beside & self._broken_by(part), until_one_fails=True)
                    if not self.answers.all_work(without, likely):
                        continue
                yield from self._ask(without, features, beside=beside, until_one_fails=True)
                if self.answers.all_work(without, features):
                    kept -= {part}
        # What the whole mode does not show to be needed is asked once more, and then whether it works with it.
        surprises = kept - frozenset().union(*(self._needs(one) for one in features))
        for part in sorted(surprises, key=self.parts.index):
            yield from self._ask(self._kept(kept - {part}), features, times=2, beside=beside, until_one_fails=True)
        if surprises:
            yield from self._ask(self._kept(kept), features, times=2, beside=beside)
        return kept

    def _enough(
        self, start: Parts, guess: Parts, features: Features, beside: Features
    ) -> Generator[tuple[Parts, Features], None, Parts]:
        """Add to a guess what it lacks, out of a set that is enough."""
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
        """Return what is believed to be enough for all features: whatever breaks one of them, without the trades."""
        return frozenset().union(*(self._needs(one) for one in self._working())) - self.trades

    def _guess_for(self, feature: str) -> Parts:
        """Return what is believed to be enough for a feature: what its absence from the set for all shows to be needed.

        Where that was not asked, what its absence from the whole mode shows.
        """

        def needed(part: str) -> bool:
            works = self.answers.all_work(self._kept(least - {part}), frozenset({feature}))
            return self.answers.breaks(frozenset({part}), feature) if works is None else not works

        least = self.least or frozenset()
        return frozenset(part for part in least if needed(part))

    def _kept(self, kept: Parts) -> Parts:
        """Return what a configuration that keeps this lacks."""
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
        """Yield where answers are missing.

        Args:
            without: in which configuration.
            features: about what.
            times: how often each has to be answered.
            beside: asked as well, where there is a start.
            until_one_fails: the answers are enough once one of them says so as often.
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
        """Return how many starts each step takes at most, as far as is known by now."""
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
    """Return how many starts it takes at most to see that a guess of so many parts is enough, and needed as a whole.

    The guess; without each part, a second time where one was not needed; each and the whole again, to be sure.
    """
    return 1 + 2 * size + size + 1


def starts_apart(search: Search, findings: Findings) -> int:
    """Return how many starts the same findings take when each feature is searched by itself.

    Counted by searching anew, in an image that needs what was found.
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
