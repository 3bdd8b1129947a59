"""The protocol of the probe: orders over the console, and events in its report (fixtures/isos/probe/README.md)."""

from collections.abc import Callable

from conformance.guests.session import GuestSession, Stopped
from conformance.media.probe_report import Event, Report

BOOT_SECONDS = 150
"""From resuming the domain to its own power-off; an emulated UEFI boot takes 20 s, beside load much longer."""

ANSWER_SECONDS = 150
"""From an order on the console to its answer; the guest itself gives up after 90 s at the latest."""


class ProbeClient:
    """Sends orders to the probe inside a guest, and waits for its events."""

    def __init__(self, session: GuestSession) -> None:
        self._session = session
        self._orders = 0

    def wait_for_event(
        self, name: str, seconds: float = BOOT_SECONDS, *, meanwhile: Callable[[], str] = lambda: ""
    ) -> Event:
        """Wait until the guest has reported an event, and return it.

        Args:
            name: the event's.
            seconds: deadline.
            meanwhile: called again and again; a text that it returns is the reason to wait no longer.

        Raises:
            GuestFailure: it did not, or it has ended.
        """

        def find(report: Report) -> Event | None:
            if trouble := meanwhile():
                raise Stopped(trouble)
            return report.last(name)

        return self._session.wait_for_report(f"to report {name!r}", find, seconds)

    def wait_for_another(self, name: str, seconds: float, *, after: int) -> Event:
        """Wait until there are more than ``after`` events of a name, and return the newest; raises as above."""
        return self._session.wait_for_report(
            "to be up again", lambda report: report.last(name) if report.count(name) > after else None, seconds
        )

    def ask(self, what: str, *, seconds: float = ANSWER_SECONDS, **arguments: str) -> Event:
        """Send an order to a guest that stays, and return the event of that name.

        Args:
            what: a topic of the probe's protocol.
            seconds: deadline for the answer.
            arguments: further words of the order, such as ``device="vdb"``.

        Raises:
            GuestFailure: it reports a failure, does not answer, or has ended.
        """
        session = self._session
        self._orders += 1
        tag = str(self._orders)
        before = len(session.observe().report.events)
        words = {"ask": what, "tag": tag, **arguments}
        session.console.send(" ".join(f"{key}={value}" for key, value in words.items()) + "\n")

        def answered(report: Report) -> Event | None:
            last = report.last("answered")
            return last if last and last["tag"] == tag else None

        session.wait_for_report(f"to answer {what!r}", answered, seconds)
        name = session.guest.name
        for event in session.guest.report.events[before:]:
            if event.name == "failure":
                raise session.failure(f"guest {name} failed to answer {what!r}: {event['message']}")
            if event.name == what:
                return event
        raise session.failure(f"guest {name} answered {what!r} with nothing")

    def ask_until(self, what: str, holds: Callable[[Event], bool], *, seconds: float = ANSWER_SECONDS) -> Event:
        """Repeat an order until its answer fulfils a condition, and return that; for changes that take a while.

        Raises:
            GuestFailure: as :meth:`ask`, or no answer within ``seconds`` did; quotes the last one.
        """
        last: list[Event] = []

        def fulfilled() -> bool:
            last[:] = [self.ask(what)]
            return holds(last[0])

        trouble = self._session.wait(f"to report the expected {what!r}", fulfilled, seconds)
        if trouble:
            raise self._session.failure(f"{trouble}; its last report: {last[0].facts}")
        return last[0]
