import errno
import fcntl
import json
import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import HarnessError
from conformance.model import record
from conformance.model.record import Record, Recorder

Make = Callable[..., Record]


def test_a_record_is_read_as_it_was_written(tmp_path: Path, make_record: Make) -> None:
    written = make_record(reason="a | b\nc", evidence={"guests": [{"report": []}]})
    Recorder(tmp_path, "host", "run").append(written)
    assert list(record.read(tmp_path)) == [written]


def test_a_line_has_the_documented_fields(tmp_path: Path, make_record: Make) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    recorder.append(make_record())
    fields = json.loads(recorder.path.read_text())
    assert {
        "schema", "time", "host", "image", "mode", "feature", "verdict", "cause", "accel", "seconds", "evidence",
    } <= set(fields)  # fmt: skip
    assert set(fields["host"]) == {"name", "fingerprint"}


def test_each_verdict_is_on_disk_as_it_falls(tmp_path: Path, make_record: Make) -> None:
    recorder = Recorder(tmp_path / "new", "host", "run")
    for number in range(3):
        recorder.append(make_record())
        assert len(recorder.path.read_text().splitlines()) == number + 1


def test_a_full_disk_leaves_no_half_line_and_the_log_has_the_record(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    recorder.append(make_record())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HarnessError, match=r"No space left.*: iso in unprivileged, lost: works\n") as caught:
            recorder.append(make_record(check="lost", evidence={"much": "x" * 10_000}))
    assert len(str(caught.value)) < 1000
    assert '"check":"lost"' in caplog.text
    assert [one.check for one in recorder.records] == ["test_boot"], "a summary counts the records of the file"
    assert [one.check for one in record.read(tmp_path)] == ["test_boot"]


def test_a_disk_that_is_full_in_the_middle_of_a_line_leaves_no_half_line(tmp_path: Path, make_record: Make) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    recorder.append(make_record())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (recorder.path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(HarnessError, match="File too large"):
            recorder.append(make_record(check="lost"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    recorder.append(make_record(check="after"))
    assert [one.check for one in record.read(tmp_path)] == ["test_boot", "after"]


def test_ctrl_c_loses_no_whole_line(tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, "host", "run")

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorder.append(make_record())
    recorder.append(make_record(check="after"))
    assert [one.check for one in record.read(tmp_path)] == ["test_boot", "after"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "JSON"),
        ("{}", "Field required"),
        ('{"schema": 2}', "schema"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, make_record: Make, line: str, complaint: str) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    recorder.append(make_record())
    with recorder.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(HarnessError, match=rf"host-run\.jsonl:2 is not a record(.|\n)*{complaint}"):
        list(record.read(tmp_path))


def test_an_invented_verdict_is_refused(tmp_path: Path, make_record: Make) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    recorder.append(make_record())
    recorder.path.write_text(recorder.path.read_text().replace('"works"', '"mostly"'))
    with pytest.raises(HarnessError, match="verdict"):
        list(record.read(tmp_path))


def test_records_of_two_processes_in_one_file_stay_complete(
    tmp_path: Path, make_record: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes while this one waits for the file, which then turns out to be on a full disk."""
    recorder = Recorder(tmp_path, "host", "run")

    def locked(file: Any, how: int) -> None:
        if how == fcntl.LOCK_SH:  # of who reads
            return
        with recorder.path.open("a") as other:
            other.write(record.line(make_record(check="other")))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fcntl, "flock", locked)
    recorder.append(make_record(check="own"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HarnessError):
            recorder.append(make_record(check="lost"))
    assert [one.check for one in record.read(tmp_path)] == ["other", "own", "other"]


def test_half_a_line_that_is_being_written_is_not_read(tmp_path: Path, make_record: Make) -> None:
    written = record.line(make_record(check="whole"))
    with ThreadPoolExecutor() as pool, (tmp_path / "host-run.jsonl").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(written[:20])
        other.flush()
        reading = pool.submit(lambda: list(record.read(tmp_path)))
        with pytest.raises(TimeoutError):
            reading.result(0.2)
        other.write(written[20:])
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
        assert [one.check for one in reading.result(10)] == ["whole"]


def test_a_record_waits_for_another_processes_one(tmp_path: Path, make_record: Make) -> None:
    recorder = Recorder(tmp_path, "host", "run")
    with recorder.path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = threading.Thread(target=recorder.append, args=(make_record(check="own"),))
        waiting.start()
        other.write(record.line(make_record(check="other")))
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
    waiting.join(60)
    assert [one.check for one in record.read(tmp_path)] == ["other", "own"]
