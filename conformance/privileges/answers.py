"""The answers that a search has so far: which features worked in which configuration, each time that it was started."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Parts = frozenset[str]
Features = frozenset[str]


@dataclass
class Answers:
    """Answers by configuration and feature.

    Attributes:
        order: the starts, oldest first: the missing parts of each, and the features that were tested.
    """

    order: list[tuple[Parts, Features]] = field(default_factory=list)
    _answers: dict[Parts, dict[str, list[bool | None]]] = field(default_factory=dict)

    def __contains__(self, without: Parts) -> bool:
        return without in self._answers

    def learn(self, without: Iterable[str], works: Mapping[str, bool | None]) -> None:
        """Add the answers of one start of a configuration.

        Args:
            without: the parts that it lacked.
            works: for each tested feature, whether it works; None where the host cannot test it. The removal of such a
                part counts as harmless, but no smallest set lacks the part.
        """
        gone = frozenset(without)
        known = self._answers.setdefault(gone, {})
        for feature, answer in works.items():
            known.setdefault(feature, []).append(answer)
        self.order.append((gone, frozenset(works)))

    def results(self, without: Parts, feature: str) -> list[bool | None]:
        """Return one result for each start of a configuration with a feature, oldest first."""
        return self._answers.get(without, {}).get(feature, [])

    def all_work(self, without: Parts, features: Features) -> bool | None:
        """Return whether all features work in a configuration; None where a result is missing.

        A feature that failed as often as it worked does not work: flaky features, and those that cannot be tested,
        are not proven.
        """
        results = [self.results(without, feature) for feature in features]
        if any(answers and 2 * answers.count(True) <= len(answers) for answers in results):
            return False
        return True if all(results) else None

    def breaks(self, without: Parts, feature: str) -> bool:
        """Return whether a feature failed in a configuration at least as often as it worked."""
        results = self.results(without, feature)
        return False in results and results.count(False) >= results.count(True)

    def answered(self, without: Parts, feature: str, times: int) -> bool:
        """Return whether there are enough results: ``times``, and at least three where they differ."""
        results = self.results(without, feature)
        return len(results) >= (times if len({*results}) < 2 else max(times, 3))

    def confirmed(self, feature: str, part: str) -> bool:
        """Return whether a removal broke a feature twice, and the whole mode was tested after the first time."""
        return self.results(frozenset({part}), feature).count(False) >= 2 and self.put_back(feature, part)

    def put_back(self, feature: str, part: str) -> bool:
        """Return whether the whole mode was tested after a removal broke a feature for the first time."""
        asked = [gone for gone, features in self.order if feature in features]
        return frozenset() in asked[asked.index(frozenset({part})) :]
