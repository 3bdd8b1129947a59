"""Merge the records of many runners into one folder, a file for each run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.errors import HarnessError
from conformance.model import record
from conformance.model.record import Record
from conformance.util import files

Name = str
"""The name of a run's file: its host and its id, so that it is unique."""


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes:
        written: files of runs that are new, or longer than before.
        known: the number of runs that were already there.
        twins: host names of more than one machine.
    """

    written: tuple[Name, ...]
    known: int
    twins: tuple[str, ...]


def merge(places: Sequence[Path], into: Path) -> Merged:
    """Put the records of files and of folders into one folder.

    The records identify a run, not the name of its file. Duplicates are merged; of an incomplete and a complete copy
    the longer one is kept. Nothing is written unless all files can be read.

    Raises:
        HarnessError: a line is not a record, two copies of a run contradict each other, or a file cannot be written.
    """
    before = _runs(sorted(into.glob("*.jsonl")))
    for name in before:
        if not (into / name).exists():
            raise HarnessError(
                f"a file in {into} has the records of {name}, but another name",
                "move that file to another folder and merge it from there",
            )
    brought = _runs(file for place in places for file in _files(place))
    after = {name: _longer(name, before.get(name, []), brought.get(name, [])) for name in {**before, **brought}}
    written = [name for name in brought if len(after[name]) > len(before.get(name, []))]
    for name in written:
        _write(into / name, after[name])
    machines = {one.host.identity for records in after.values() for one in records}
    names = [host for host, *_ in machines]
    return Merged(
        written=tuple(sorted(written)),
        known=len(brought) - len(written),
        twins=tuple(sorted({host for host in names if names.count(host) > 1})),
    )


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.glob("*.jsonl"))


def _runs(files: Iterable[Path]) -> dict[Name, list[Record]]:
    """Return the records by run; a file may have several runs, and a run several files."""
    runs: dict[Name, list[Record]] = {}
    for file in files:
        own: dict[Name, list[Record]] = {}
        for one in record.read_file(file, Record):
            own.setdefault(record.file_name(one.host.name, one.run), []).append(one)
        for name, records in own.items():
            runs[name] = _longer(name, runs.get(name, []), records)
    return runs


def _longer(name: Name, one: list[Record], other: list[Record]) -> list[Record]:
    """Return the longer of two copies of a run; it must begin with the shorter one."""
    short, long = sorted((one, other), key=len)
    if long[: len(short)] != short:
        raise HarnessError(
            f"two copies of the run {name} have different records",
            "keep the original file: a run only appends to its file",
        )
    return long


def _write(file: Path, records: Iterable[Record]) -> None:
    """Write a run's records completely or not at all."""
    files.write(file, "".join(record.line(one) for one in records), "name another folder", parents=True)
