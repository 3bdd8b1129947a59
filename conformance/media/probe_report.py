"""The probe guest's report: JSON lines on its serial console."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.errors import ImageFailure

MARK = "@probe "
"""Begins each report on the console; whatever else is there is the firmware's, the loader's or the kernel's."""


@dataclass(frozen=True)
class Event:
    """One line of the report.

    Attributes:
        name: its topic, such as ``disk`` or ``lease``.
        facts: the guest's observations.
    """

    name: str
    facts: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return a fact; raises ImageFailure where the guest did not state it."""
        if key not in self.facts:
            raise ImageFailure(f"the guest's {self.name!r} report does not state {key!r}: {self.facts}")
        return self.facts[key]

    def json(self, key: str) -> Any:
        """Return a fact that is itself JSON, such as a server's reply; raises ImageFailure where it is not."""
        try:
            return json.loads(self[key])
        except (TypeError, ValueError) as error:
            raise ImageFailure(f"the guest's {self.name!r} report has no JSON in {key!r}: {self[key]!r}") from error


class Report:
    """The events that one guest reported, in the order of their numbers.

    Lines of another guest (another nonce) and damaged lines are kept apart: they are no evidence. After its
    end, a guest that reboots numbers its events from 0 again.

    Args:
        console: the text of the serial console.
        nonce: repeated by the guest on each line.
        past: the events over earlier consoles.
        number: the number of the first event on this console.
    """

    def __init__(self, console: str, nonce: str, *, past: Sequence[Event] = (), number: int = 0) -> None:
        self.events: list[Event] = list(past)
        self.foreign: list[str] = []
        self.number = number
        """The number of the guest's next event."""
        for line in _marked(console):
            try:
                facts = json.loads(line)
                if facts.pop("nonce") != nonce or facts.pop("seq") != self.number:
                    raise ValueError
                self.events.append(Event(facts.pop("event"), facts))
                self.number = 0 if self.complete else self.number + 1
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.foreign.append(line)

    @property
    def complete(self) -> bool:
        """Whether the guest got to its end."""
        return bool(self.events) and self.events[-1].name == "end"

    def failures(self, *steps: str) -> list[str]:
        """Return the guest's own messages about failed steps: of some steps, or of all."""
        return [
            f"{event['step']}: {event['message']}"
            for event in self.events
            if event.name == "failure" and (not steps or event["step"] in steps)
        ]

    def count(self, name: str) -> int:
        """Return how many events of a name there are."""
        return sum(event.name == name for event in self.events)

    def last(self, name: str) -> Event | None:
        """Return the newest event of a name."""
        return next((event for event in reversed(self.events) if event.name == name), None)

    def __contains__(self, name: str) -> bool:
        return any(event.name == name for event in self.events)

    def __getitem__(self, name: str) -> Event:
        """Return an event; raises ImageFailure with the names of all others if it is missing."""
        for event in self.events:
            if event.name == name:
                return event
        failures = "; ".join(self.failures()) or "no failure"
        names = ", ".join(event.name for event in self.events)
        raise ImageFailure(f"the guest did not report {name!r}; it reported {names or 'nothing'} and {failures}")

    def as_json(self) -> list[dict[str, Any]]:
        """Return the events for a record."""
        return [{"event": event.name, **event.facts} for event in self.events]


def _marked(console: str) -> Iterator[str]:
    for line in console.splitlines():
        _, mark, rest = line.partition(MARK)
        if mark:
            yield rest.strip()
