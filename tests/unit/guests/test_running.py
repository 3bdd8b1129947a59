"""Running guests: reports, waiting, screens, orders, snapshots; the domain and its console are fakes."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest
from PIL import Image

from conformance.errors import Unsupported
from conformance.guests import console, install_watch, running, screen, screen_watch, session, snapshots
from conformance.guests.guest import CONSOLE_EXCERPT, Guest, GuestFailure
from conformance.guests.install_watch import Watch
from conformance.guests.running import RunningGuest
from conformance.guests.spec import GuestSpec
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.model.verdict import blames_image
from conformance.util import paths

NONCE = "abc"
RUNNING, PAUSED, OFF = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF


def line(seq: int, event: str, nonce: str = NONCE, **facts: Any) -> bytes:
    return f"@probe {json.dumps({'nonce': nonce, 'seq': seq, 'event': event, **facts})}\r\n".encode()


class Stream:
    """A console: hands over what the guest wrote, and takes what is typed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.typed = ""
        self.answers: Callable[[str], bytes] = lambda _order: b""
        self.callback: Any = None
        self.picture = b""

    def eventAddCallback(self, _events: int, callback: Any, _opaque: object) -> None:  # noqa: N802
        self.callback = callback
        self.deliver()

    def deliver(self, *, ended: bool = False) -> None:
        self.callback(self, libvirt.VIR_STREAM_EVENT_READABLE, None)
        if ended:
            self.callback(self, libvirt.VIR_STREAM_EVENT_HANGUP, None)

    def recv(self, _length: int) -> bytes | int:
        return self.written.pop(0) if self.written else -2

    def send(self, text: bytes) -> int:
        self.typed += text.decode()
        if self.typed.endswith("\n"):
            self.written.append(self.answers(self.typed))
            self.deliver()
        return len(text)

    def recvAll(self, take: Any, opaque: object) -> None:  # noqa: N802
        take(self, self.picture, opaque)

    def finish(self) -> None:
        pass

    def eventRemoveCallback(self) -> None:  # noqa: N802
        pass

    def abort(self) -> None:
        pass


class Domain:
    """A domain that is in the given states, one after another; in the last for ever."""

    def __init__(self, stream: Stream, states: list[int]) -> None:
        self.stream, self.states = stream, states

    def openConsole(self, _device: None, _stream: Stream, _flags: int) -> None:  # noqa: N802
        pass

    def state(self) -> tuple[int, int]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == OFF:
            self.stream.deliver(ended=True)
        return state, 0

    def diskErrors(self) -> dict[str, int]:  # noqa: N802
        return {"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE} if self.states == [PAUSED] else {}

    def screenshot(self, _stream: Stream, _screen: int) -> str:
        if self.states == [OFF]:
            raise libvirt.libvirtError("domain is not running")
        return "image/png"

    def destroy(self) -> None:
        pass

    def isActive(self) -> bool:  # noqa: N802
        return True

    def save(self, _file: str) -> None:
        pass

    def snapshotCreateXML(self, _xml: str) -> "Domain":  # noqa: N802
        return self

    def revertToSnapshot(self, _snapshot: "Domain", _flags: int) -> None:  # noqa: N802
        pass

    def delete(self) -> None:
        pass

    def setLifecycleAction(self, _event: int, _action: int, _flags: int) -> None:  # noqa: N802
        pass

    def reboot(self, _flags: int) -> None:
        self.stream.written += [line(2, "button"), line(3, "end"), b"SeaBIOS\r\n", line(0, "boot"), line(1, "ready")]
        self.stream.deliver()

    def resume(self) -> None:
        self.stream.deliver()


class Connection:
    """A connection to a daemon that has one domain; each console of it is another stream."""

    def __init__(self, *streams: Stream) -> None:
        self.streams = list(streams)
        self.domain = Domain(streams[0], [RUNNING])

    def newStream(self, _flags: int) -> Stream:  # noqa: N802
        self.domain.stream = self.streams.pop(0)
        return self.domain.stream

    def lookupByName(self, _name: str) -> Domain:  # noqa: N802
        return self.domain

    def restoreFlags(self, _file: str, _xml: None, _flags: int) -> None:  # noqa: N802
        pass


class Container:
    """A container that has nothing to say."""

    running = False
    mode = mode.from_contract(contracts.load(), "unprivileged")

    def run(self, *_command: str) -> None:
        pass

    def describe(self) -> str:
        return "the engine says: running"


Start = Callable[..., RunningGuest]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a guest that has written something and goes through some states."""
    monkeypatch.setattr(console, "DRAIN_SECONDS", 0)

    def start(
        *written: bytes,
        states: list[int],
        answers: Callable[[str], bytes] = lambda _order: b"",
        picture: bytes = b"",
    ) -> RunningGuest:
        stream = Stream()
        stream.picture = picture
        stream.written, stream.answers = list(written), answers
        connection: Any = type("Connection", (), {"newStream": lambda _self, _flags: stream})()
        container: Any = Container()
        domain: Any = Domain(stream, states)
        spec = GuestSpec("bios", "tcg", "p", screen=bool(picture))
        return RunningGuest(container, connection, domain, Guest("probe", NONCE, spec, "<domain/>", "mac"))

    return start


def test_a_whole_report_is_read(start: Start) -> None:
    guest = start(b"SeaBIOS\r\n", line(0, "boot", kernel="6.12"), line(1, "end"), states=[RUNNING, OFF]).wait_for_end(5)
    assert guest.report["boot"]["kernel"] == "6.12"


@pytest.mark.parametrize(
    "written",
    [
        (b"",),
        (b"Kernel panic - not syncing\r\n",),
        (line(0, "boot"),),
        (line(0, "boot", nonce="old"), line(1, "end", nonce="old")),
        (b"@probe {", b"@probe []\r\n", b"\xff\xfe\x00"),
    ],
)
def test_a_guest_that_ends_without_its_report_has_failed(start: Start, written: tuple[bytes, ...]) -> None:
    with pytest.raises(GuestFailure, match="ended without finishing its report") as failure:
        start(*written, states=[RUNNING, OFF]).wait_for_end(5)
    assert written[0].decode(errors="replace").strip()[:20] in str(failure.value)


def test_a_guest_that_never_ends_has_a_deadline_and_its_console_is_shown(start: Start) -> None:
    with pytest.raises(GuestFailure, match=r"waited 0 s for guest probe to report(.|\n)*login:(.|\n)*engine says"):
        start(b"login: ", states=[RUNNING]).wait_for_end(0)


def test_a_guest_that_stops_running_is_told_at_once(start: Start) -> None:
    with pytest.raises(GuestFailure, match="stopped running"):
        start(line(0, "boot"), states=[RUNNING, PAUSED]).wait_for_end(60)


def test_a_domain_that_lingers_after_its_guest_has_powered_off_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LINGER_SECONDS", 0)
    with pytest.raises(GuestFailure, match="powered off, and libvirt did not end its domain within 0 s"):
        start(line(0, "boot"), states=[RUNNING, libvirt.VIR_DOMAIN_SHUTDOWN]).wait_for_end(60)

    complete = start(line(0, "boot"), line(1, "end"), states=[RUNNING, libvirt.VIR_DOMAIN_SHUTDOWN])
    assert complete.wait_for_end(60).report.complete, "what it reported counts all the same"


def test_a_guest_that_stops_for_a_full_disk_is_no_evidence_against_the_image(start: Start) -> None:
    with pytest.raises(GuestFailure, match="vda: No space left on device") as failure:
        start(line(0, "boot"), states=[PAUSED]).wait_for_end(60)
    assert not blames_image(failure.value)


def test_a_guest_that_floods_its_console_is_ended_and_costs_no_memory(start: Start) -> None:
    guest = start(*[b"x" * 2**16] * 40, states=[RUNNING])
    with pytest.raises(GuestFailure, match="floods its console") as failure:
        guest.wait_for_end(60)
    assert len(guest.observed.console) == console.CONSOLE_BYTES
    assert len(str(failure.value)) < 2 * CONSOLE_EXCERPT


def test_a_guest_that_nobody_can_wait_for_is_started_and_ended() -> None:
    """That it starts is the image's doing; how long it takes is not."""
    ended: list[str] = []

    class Started(Domain):
        def destroy(self) -> None:
            ended.append("destroyed")

    class Daemon(Connection):
        def createXML(self, _xml: str, _flags: int) -> Domain:  # noqa: N802
            return Started(Stream(), [PAUSED])

    container: Any = Container()
    container.connection = Daemon(Stream())
    spec = GuestSpec("bios", "tcg", "pool", unbootable_reason="emulated twice")
    with pytest.raises(Unsupported, match="emulated twice"), running.started(container, spec, {}):
        pass
    assert ended == ["destroyed"]


def test_an_order_is_answered(start: Start) -> None:
    def answers(order: str) -> bytes:
        assert order == "ask=size tag=1 device=vda\n"
        return line(1, "size", bytes=7) + line(2, "answered", tag="1")

    guest = start(line(0, "ready"), states=[RUNNING], answers=answers)
    assert guest.probe.wait_for_event("ready", 5)
    assert guest.probe.ask("size", device="vda")["bytes"] == 7


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            line(1, "failure", step="size", message="no disk") + line(2, "answered", tag="1"),
            "failed to answer 'size': no disk",
        ),
        (line(1, "answered", tag="1"), "answered 'size' with nothing"),
        (line(1, "size") + line(2, "answered", tag="of another order"), "waited 0 s"),
        (b"garbage\r\n", "waited 0 s"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(start: Start, answer: bytes, complaint: str) -> None:
    guest = start(line(0, "ready"), states=[RUNNING], answers=lambda _order: answer)
    with pytest.raises(GuestFailure, match=complaint):
        guest.probe.ask("size", seconds=0)


def test_what_a_guest_said_last_is_heard_after_it_has_ended(start: Start) -> None:
    guest = start(states=[OFF])
    guest.domain.stream.written = [line(0, "end")]
    assert guest.probe.wait_for_event("end", 5).name == "end"


def test_a_guest_that_ends_instead_of_answering_has_failed(start: Start) -> None:
    with pytest.raises(GuestFailure, match="ended instead of"):
        start(line(0, "ready"), states=[OFF]).probe.ask("size")


# What a guest shows ---------------------------------------------------------------------------------------


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A screen with one character on it, which is called M here."""
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "artefacts")
    monkeypatch.setattr(screen, "fonts", lambda: {b"\x80" + bytes(15): "M"})
    image = Image.new("RGB", (720, 400))
    image.putpixel((18, 32), (170, 170, 170))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def test_what_is_waited_for_may_be_on_the_console_or_on_the_screen(start: Start, picture: bytes) -> None:
    guest = start(b"iPXE 1.21", states=[RUNNING], picture=picture)
    assert guest.wait_for_text(r"iPXE \d", seconds=0) == {"console": "iPXE 1"}
    assert guest.wait_for_text("M", seconds=0) == {"screen": "  M"}


def test_a_terminals_orders_are_no_text(start: Start) -> None:
    written = b"\x1bc\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: \x1b[1miPXE\x1b[0m 1.21\r\n\x1b(Bnext\tline\0"
    with pytest.raises(GuestFailure, match=r"console ends with:\nBdsDxe: iPXE 1\.21\nnext\tline\n"):
        start(written, states=[RUNNING]).wait_for_text("login:", seconds=0)
    assert start(written, states=[RUNNING]).wait_for_text(r"iPXE \S+", seconds=0) == {"console": "iPXE 1.21"}


def test_it_counts_only_where_it_has_to_be(start: Start, picture: bytes) -> None:
    for place, pattern in (("screen", "iPXE"), ("console", "M")):
        guest = start(b"iPXE 1.21", states=[RUNNING], picture=picture)
        with pytest.raises(GuestFailure, match=f"to show '{pattern}'"):
            guest.wait_for_text(pattern, on=place, seconds=0)  # type: ignore[arg-type]


def test_what_was_shown_instead_is_told_and_the_screenshot_kept(start: Start, picture: bytes, tmp_path: Path) -> None:
    shown = r"to show 'login:'; instead: its console ends with 'iPXE 1\.21', its screen ends with 'M'"
    with pytest.raises(GuestFailure, match=shown) as failure:
        start(b"iPXE 1.21", states=[RUNNING], picture=picture).wait_for_text("login:", seconds=0)
    kept = tmp_path / "artefacts" / "probe.png"
    assert "iPXE 1.21" in str(failure.value)
    assert "the screen shows:\n  M\nscreenshot: artefacts/probe.png\n" in str(failure.value)
    assert Image.open(kept).size == (720, 400)


def test_of_a_guest_that_was_watched_a_series_of_screenshots_is_kept(
    start: Start, picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen_watch, "LOOK_SECONDS", 0)
    monkeypatch.setattr(screen_watch, "PICTURES", 2)
    guest = start(b"Installing\r\nthe base system\r\n\r\n", states=[RUNNING], picture=picture)
    for left in (10, 20, 30, 30):
        guest.domain.stream.picture = cell_at(left)
        guest.session.screen.take_picture()
    assert guest.session.last_line == "the base system"

    with pytest.raises(GuestFailure, match="nothing moves") as failure:
        guest.probe.wait_for_event("end", seconds=60, meanwhile=lambda: "nothing moves")

    kept = [tmp_path / "artefacts" / f"probe-{number}.png" for number in (1, 2)]
    assert "screenshot: artefacts/probe-1.png, artefacts/probe-2.png\n" in str(failure.value)
    assert [Image.open(path).getbbox() for path in kept] == [(20, 0, 21, 1), (30, 0, 31, 1)]


def test_a_key_is_pressed_until_the_guest_reads_its_medium(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_watch, "LOOK_SECONDS", 0)
    guest = start(states=[RUNNING])
    read = [0, 2**20, install_watch.LOADER_BYTES, install_watch.LOADER_BYTES + 1]
    pressed: list[list[int]] = []
    guest.domain.blockStats = lambda _disk: (1, read.pop(0), 0, 0, 0)
    guest.domain.sendKey = lambda _set, _ms, keys, _count, _flags: pressed.append(keys)
    watch(guest).press_any_key(seconds=60)
    assert pressed == [[install_watch.KEY_ENTER]] * 3


def test_a_guest_that_never_reads_its_medium_has_failed(start: Start, picture: bytes) -> None:
    guest = start(states=[RUNNING], picture=picture)
    guest.domain.blockStats = lambda _disk: (1, 512, 0, 0, 0)
    guest.domain.sendKey = lambda *_: None
    with pytest.raises(
        GuestFailure, match=r"to boot from its medium; instead: (.|\n)*screenshot: artefacts/probe\.png"
    ):
        watch(guest).press_any_key(seconds=0)


def test_the_power_button_is_pressed_and_the_end_waited_for(start: Start) -> None:
    guest = start(line(0, "ready"), states=[RUNNING, OFF])
    pressed: list[int] = []

    def shut_down(flags: int) -> None:
        pressed.append(flags)
        guest.domain.stream.written.append(line(1, "end"))

    guest.domain.shutdownFlags = shut_down
    assert guest.shut_down(5).report.complete
    assert pressed == [libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN]


def watch(guest: RunningGuest) -> Watch:
    return Watch(guest, lambda _text: None, "mode, BIOS", stall_seconds=60)


def cell_at(left: int) -> bytes:
    """A screen with one point on it."""
    image = Image.new("RGB", (720, 400))
    image.putpixel((left, 0), (170, 170, 170))
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def test_a_screenshot_that_cannot_be_kept_hides_no_failure(start: Start, picture: bytes, tmp_path: Path) -> None:
    (tmp_path / "artefacts").write_text("in the way")
    with pytest.raises(GuestFailure, match="the screen shows:\n  M\n") as failure:
        start(states=[RUNNING], picture=picture).wait_for_text("login:", seconds=0)
    assert "screenshot:" not in str(failure.value)


def test_a_guest_that_ends_without_showing_it_has_failed_at_once(start: Start, picture: bytes) -> None:
    with pytest.raises(
        GuestFailure, match=r"ended without showing 'login:'(.|\n)*no screenshot: domain is not running"
    ):
        start(states=[OFF], picture=picture).wait_for_text("login:", seconds=60)


def test_what_a_guest_shows_last_counts_as_well(start: Start) -> None:
    guest = start(states=[OFF])
    guest.domain.stream.written.append(b"reboot: Power down\r\n")
    assert guest.wait_for_text("Power down", seconds=60) == {"console": "Power down"}


@pytest.fixture
def up() -> Callable[[int], RunningGuest]:
    """Starts a guest that is up and answers with how often it was asked; its second console begins at a number."""

    def up(number: int) -> RunningGuest:
        first, second = Stream(), Stream()
        first.written = [line(0, "boot"), line(1, "ready")]
        first.answers = lambda _order: line(2, "kept", word="first") + line(3, "answered", tag="1")
        second.answers = lambda _order: line(number, "kept", word="second") + line(number + 1, "answered", tag="2")
        connection: Any = Connection(first, second)
        container: Any = Container()
        guest = Guest("probe", NONCE, GuestSpec("bios", "tcg", "p"), "<domain/>", "mac")
        return RunningGuest(container, connection, connection.domain, guest)

    return up


def test_a_saved_guest_goes_on_with_its_numbers_over_another_console(up: Any) -> None:
    guest = up(4)
    assert guest.probe.ask("kept")["word"] == "first"
    with snapshots.saved(guest):
        pass
    assert guest.probe.ask("kept")["word"] == "second"
    assert guest.report.count("boot") == 1


def test_a_reverted_guest_goes_on_with_the_numbers_of_its_snapshot(up: Any) -> None:
    guest = up(2)
    with snapshots.reverted(guest):
        assert guest.probe.ask("kept")["word"] == "first"
    assert guest.probe.ask("kept")["word"] == "second"


def test_a_guest_that_does_not_go_on_where_it_was_has_failed(up: Any) -> None:
    guest = up(2)
    guest.probe.ask("kept")
    with snapshots.saved(guest):
        pass
    with pytest.raises(GuestFailure, match="waited 0 s for guest probe to answer 'kept'"):
        guest.probe.ask("kept", seconds=0)


def test_a_reboot_is_a_second_boot_of_the_same_guest(up: Any) -> None:
    guest = up(2)
    guest.reboot(seconds=1)
    assert [event.name for event in guest.report.events] == ["boot", "ready", "button", "end", "boot", "ready"]


def test_a_guest_that_never_does_what_was_asked_for_is_quoted(up: Any) -> None:
    guest = up(2)
    with pytest.raises(GuestFailure, match=r"waited 0 s for .* to report the expected 'kept'.*'word': 'first'"):
        guest.probe.ask_until("kept", lambda _seen: False, seconds=0)
