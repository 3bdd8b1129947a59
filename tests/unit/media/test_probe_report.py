import json
from typing import Any

import pytest

from conformance.errors import ImageFailure
from conformance.media.probe_report import Report


def line(seq: int, event: str, nonce: str = "abc", **facts: Any) -> str:
    return "@probe " + json.dumps({"nonce": nonce, "seq": seq, "event": event, **facts})


def test_events_are_read_among_other_console_output() -> None:
    console = f"SeaBIOS\r\n\x1b[2J{line(0, 'boot', kernel='6.12')}\r\nnoise\r\n{line(1, 'end')}\r\n"
    report = Report(console, "abc")
    assert report["boot"]["kernel"] == "6.12"
    assert report.complete


def test_a_report_of_another_boot_is_no_evidence() -> None:
    report = Report("\n".join([line(0, "boot", nonce="old"), line(1, "end", nonce="old")]), "abc")
    assert not report.events
    assert not report.complete
    assert len(report.foreign) == 2


def test_a_replayed_line_is_no_evidence() -> None:
    report = Report("\n".join([line(0, "boot"), line(0, "boot"), line(1, "end")]), "abc")
    assert [event.name for event in report.events] == ["boot", "end"]
    assert len(report.foreign) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "@probe {",
        "@probe []",
        '@probe {"nonce":"abc"}',
        "@probe 7",
        "@probe \xff",
        pytest.param("@probe " + "[" * 100_000, id="no bottom"),
    ],
)
def test_garbage_is_no_evidence(damage: str) -> None:
    report = Report(f"{line(0, 'boot')}\n{damage}\n", "abc")
    assert [event.name for event in report.events] == ["boot"]
    assert not report.complete


def test_a_lost_line_leaves_the_report_incomplete() -> None:
    assert not Report("\n".join([line(0, "boot"), line(2, "end")]), "abc").complete


def test_what_was_not_reported_is_a_failure_of_the_image_that_tells_what_was() -> None:
    report = Report(line(0, "failure", step="lease", message="no answer"), "abc")
    with pytest.raises(ImageFailure, match="lease: no answer"):
        report["lease"]
    with pytest.raises(ImageFailure, match="does not state 'missing'"):
        report["failure"]["missing"]


def test_a_servers_reply_is_json_or_a_failure() -> None:
    report = Report("\n".join([line(0, "exchange", reply='{"client": "10.0.0.1"}'), line(1, "dns", reply="no")]), "abc")
    assert report["exchange"].json("reply") == {"client": "10.0.0.1"}
    with pytest.raises(ImageFailure, match="no JSON"):
        report["dns"].json("reply")


def test_a_reboot_numbers_its_events_anew() -> None:
    first, second = [line(0, "boot"), line(1, "end")], [line(0, "boot"), line(1, "ready")]
    report = Report("\n".join([*first, *second]), "abc")
    assert [event.name for event in report.events] == ["boot", "end", "boot", "ready"]
    assert report.count("boot") == 2
    assert not report.complete
    assert report.number == 2


def test_a_report_goes_on_over_another_console() -> None:
    past = Report("\n".join([line(0, "boot"), line(1, "ready"), line(2, "size")]), "abc")
    report = Report("\n".join([line(2, "kept"), line(3, "answered")]), "abc", past=past.events, number=2)
    assert [event.name for event in report.events] == ["boot", "ready", "size", "kept", "answered"]
    assert report.number == 4
    assert not Report(line(7, "kept"), "abc", past=past.events, number=2).events[3:]
