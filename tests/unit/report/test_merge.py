from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.cli import main
from conformance.errors import HarnessError
from conformance.model import record
from conformance.model.record import Host, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.report.merge import merge

Make = Callable[..., Record]
A, B = "20260101T000000Z-aaaaaa-1", "20260102T000000Z-bbbbbb-2"


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., Path]:
    """Writes records into a file of a folder, as a run would."""

    def keep(folder: str, *records: Record, name: str = "") -> Path:
        path = tmp_path / folder
        recorder = Recorder(path, records[0].host.name, records[0].run)
        for one in records:
            recorder.append(one)
        return recorder.path.rename(path / name) if name else recorder.path

    return keep


def test_runs_of_many_runners_are_put_together(keep: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    keep("fetched", make_record(run=A), make_record(run=A, check="test_b"))
    other = keep("other", make_record(run=B, host=Host(name="other", fingerprint={})))
    merged = merge([tmp_path / "fetched", other], tmp_path / "into")
    assert merged.written == (f"docker-1-{A}.jsonl", f"other-{B}.jsonl")
    assert sorted(file.name for file in (tmp_path / "into").iterdir()) == sorted(merged.written)
    assert [(one.run, one.check) for one in record.read(tmp_path / "into")] == [
        (A, "test_boot"),
        (A, "test_b"),
        (B, "test_boot"),
    ]
    assert merge([tmp_path / "fetched", other], tmp_path / "into").written == (), "again is once"


def test_runs_are_distinguished_by_their_records(keep: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    both = keep("fetched", make_record(run=A), make_record(run=B), name="all.jsonl")
    assert merge([both], tmp_path / "into").written == (f"docker-1-{A}.jsonl", f"docker-1-{B}.jsonl")


def test_of_a_run_that_was_fetched_before_its_end_the_longer_part_is_kept(
    keep: Callable[..., Path], make_record: Make, tmp_path: Path
) -> None:
    first, second = make_record(run=A), make_record(run=A, check="test_b")
    early, late = keep("early", first), keep("late", first, second)
    assert merge([early], tmp_path / "into").written
    assert merge([late], tmp_path / "into").written
    assert merge([early], tmp_path / "into").known == 1
    assert list(record.read(tmp_path / "into")) == [first, second]


def test_contradicting_copies_of_a_run_are_rejected(
    keep: Callable[..., Path], make_record: Make, tmp_path: Path
) -> None:
    keep("one", make_record(run=A), make_record(run=B))
    keep("other", make_record(run=A, verdict=Verdict.FAILS))
    with pytest.raises(HarnessError, match=f"docker-1-{A}"):
        merge([tmp_path / "one", tmp_path / "other"], tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_an_invalid_record_is_rejected(keep: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    good, torn = keep("fetched", make_record(run=A)), keep("fetched", make_record(run=B))
    torn.write_text(torn.read_text() + torn.read_text()[:100])
    with pytest.raises(HarnessError, match=f"{torn.name}:2 is not a record"):
        merge([good, torn], tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("run", ["../../x", "a/b", ".", ""])
def test_a_run_cannot_choose_another_folder(
    keep: Callable[..., Path], make_record: Make, tmp_path: Path, run: str
) -> None:
    file = keep("fetched", make_record(run=A))
    file.write_text(file.read_text().replace(f'"{A}"', f'"{run}"'))
    with pytest.raises(HarnessError, match="is not a record: run"):
        merge([file], tmp_path / "into")


def test_a_file_that_is_not_called_after_its_run_would_be_there_twice(
    keep: Callable[..., Path], make_record: Make, tmp_path: Path
) -> None:
    keep("into", make_record(run=A), name="mine.jsonl")
    with pytest.raises(HarnessError, match="but another name"):
        merge([keep("fetched", make_record(run=A))], tmp_path / "into")


def test_a_full_disk_leaves_the_old_records(keep: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    first = make_record(run=A)
    there = keep("into", first)
    there.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(HarnessError, match="No space left"):
        merge([keep("fetched", first, make_record(run=A, check="test_b"))], tmp_path / "into")
    assert list(record.read(tmp_path / "into")) == [first]


def test_two_machines_with_one_name_are_reported(keep: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    for number, run in enumerate((A, B)):
        keep("fetched", make_record(run=run, host=Host(name="docker-1", fingerprint={"cpu": f"cpu {number}"})))
    words = ["merge", str(tmp_path / "fetched"), "--into", str(tmp_path / "into")]
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 0, done.output
    assert f"2 new runs in {tmp_path / 'into'}" in done.output
    assert "machines have the name docker-1" in done.output


def test_nothing_to_merge_is_a_mistake(tmp_path: Path) -> None:
    assert CliRunner().invoke(main.app, ["merge", str(tmp_path), "--into", str(tmp_path)]).exit_code == 4
    assert CliRunner().invoke(main.app, ["merge", str(tmp_path / "nowhere"), "--into", str(tmp_path)]).exit_code == 4
