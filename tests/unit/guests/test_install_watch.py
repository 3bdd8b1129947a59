"""Watching an installation: its progress, and the ends of the wait; the clock is a number."""

from collections.abc import Callable
from typing import Any

import pytest

from conformance.guests import install_watch
from conformance.guests.install_watch import Watch
from conformance.media.probe_report import Event


class Failed(Exception):
    """The guest failed."""


class Running:
    """A guest that writes a line, or does something on its disk, each time that it is looked at; then reports."""

    def __init__(self, clock: list[float], lines: list[str], disk: list[int]) -> None:
        self.clock, self.lines, self.disk = clock, lines, disk
        self.pictures = 0
        self.reboots = 0
        self.session = self.screen = self.probe = self

    def activity(self) -> tuple[int, ...]:
        return (len(self.lines), self.disk.pop(0) if len(self.disk) > 1 else self.disk[0])

    @property
    def last_line(self) -> str:
        return self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]

    def take_picture(self) -> None:
        self.pictures += 1

    def wait_for_event(self, name: str, seconds: float, *, meanwhile: Callable[[], str]) -> Event:
        for _ in range(int(seconds)):
            if trouble := meanwhile():
                raise Failed(trouble)
            self.clock[0] += 1
        return Event(name, {})


Make = Callable[..., tuple[Watch, Running, list[str]]]


@pytest.fixture
def make() -> Make:
    def make(*lines: str, disk: tuple[int, ...] = (0,)) -> tuple[Watch, Running, list[str]]:
        clock, told = [1000.0], list[str]()
        running: Any = Running(clock, list(lines), list(disk))
        watched = Watch(running, told.append, "mode, BIOS", stall_seconds=120, clock=lambda: clock[0])
        return watched, running, told

    return make


def test_progress_tells_phase_time_and_newest_line(make: Make) -> None:
    watched, running, told = make("Retrieving perl", "Unpacking perl", "Configuring perl", "Installing GRUB")
    assert watched.until("end", "installing", seconds=61).name == "end"
    assert told == [
        "mode, BIOS: installing, 0 min 00 s: Retrieving perl",
        "mode, BIOS: installing, 0 min 20 s: Unpacking perl",
        "mode, BIOS: installing, 0 min 40 s: Configuring perl",
        "mode, BIOS: installing, 1 min 00 s: Installing GRUB",
    ]
    assert running.pictures == len(told)


def test_of_a_long_line_its_end_is_told(make: Make) -> None:
    watched, _, told = make("Installing the base system" + "".join(f" ... {done}%" for done in range(100)))
    watched.until("end", "installing", seconds=1)
    (line,) = told
    assert line.startswith("mode, BIOS: installing, 0 min 00 s: …")
    assert line.endswith(" ... 98% ... 99%")
    assert len(line) < 100


def test_the_time_goes_on_over_phases(make: Make) -> None:
    watched, _, told = make("line")
    watched.until("end", "installing", seconds=60)
    watched.until("ready", "first start", seconds=1)
    assert told[-1] == "mode, BIOS: first start, 1 min 00 s: line"


def test_a_guest_without_any_sign_of_life_is_given_up_long_before_the_deadline(make: Make) -> None:
    watched, _, told = make("Prompt: '?' for help>")
    with pytest.raises(
        Failed, match=r"^installing: no activity on console and disk for 2 min 00 s; .*Prompt: '\?' for"
    ):
        watched.until("end", "installing", seconds=3600)
    assert told[-1].startswith("mode, BIOS: installing, 2 min 00 s: ")


def test_what_is_done_on_the_disk_is_a_sign_of_life(make: Make) -> None:
    watched, _, _ = make("Unpacking", disk=tuple(range(100)))
    assert watched.until("end", "installing", seconds=600)


def test_a_stall_in_one_phase_counts_from_the_last_sign_of_life(make: Make) -> None:
    watched, running, _ = make("line", disk=(0, 1, 2, 2))
    with pytest.raises(Failed, match="for 2 min 00 s"):
        watched.until("end", "installing", seconds=3600)
    assert running.clock[0] == 1000 + 40 + 120


def test_a_kernel_that_panicked_is_given_up_at_once(make: Make) -> None:
    watched, _, told = make("Unpacking perl", "[  9.1] ---[ end Kernel panic - not syncing: Fatal exception ]---")
    with pytest.raises(Failed, match=r"^installing: its kernel panicked: .*Fatal exception"):
        watched.until("end", "installing", seconds=3600)
    assert len(told) == 2


def test_a_guest_that_reboots_again_and_again_is_given_up_however_much_it_does(make: Make) -> None:
    watched, running, told = make("Restarting", disk=tuple(range(100)))
    running.reboots = install_watch.REBOOTS
    assert watched.until("end", "installing", seconds=60)
    running.reboots += 1
    with pytest.raises(
        Failed, match=rf"^first start: it has rebooted {install_watch.REBOOTS + 1} times; .*'Restarting'"
    ):
        watched.until("end", "first start", seconds=60)
    assert told


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 min 00 s"), (61.9, "1 min 01 s"), (3600, "60 min 00 s")])
def test_times_are_written_as_minutes(seconds: float, words: str) -> None:
    assert install_watch.minutes(seconds) == words
