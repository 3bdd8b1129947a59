"""Records: one JSON line for each verdict, written at once."""

import fcntl
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import HarnessError
from conformance.model.verdict import Verdict
from conformance.util import files

LOG = logging.getLogger(__name__)

HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Valid host names; they are part of a record file's name."""

RUN_ID = r"^[A-Za-z0-9-]+$"
"""Valid run ids; they are part of a record file's name."""

Identity = tuple[str, ...]
"""The facts that distinguish two hosts."""


class Data(BaseModel):
    """The base of all parts of records."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Host(Data):
    """The engine's host."""

    name: str = Field(pattern=HOST_NAME)
    fingerprint: dict[str, str | int]

    @property
    def identity(self) -> Identity:
        """Return the facts that identify this host: its name and its machine.

        Default names come from the engine, so several machines can share one. Facts that upgrades change, such as the
        kernel, are not part of the identity.
        """
        return (self.name, *(str(self.fingerprint.get(fact, "")) for fact in ("arch", "cpu", "cpus")))

    @property
    def security(self) -> str:
        """Return its engine's security options, such as AppArmor, in one line."""
        return str(self.fingerprint.get("security", ""))


def names(hosts: Iterable[Host]) -> dict[Identity, str]:
    """Return each host's name; with its machine's facts if several hosts share the name."""
    known = {one.identity: one for one in hosts}
    shared = Counter(one.name for one in known.values())
    return {identity: _described(one) if shared[one.name] > 1 else one.name for identity, one in known.items()}


def _described(host: Host) -> str:
    arch, cpu, cpus = (fact or "unknown" for fact in host.identity[1:])
    return f"{host.name} (architecture {arch}, processor {cpu}, {cpus} CPUs)"


class Image(Data):
    """The image under test.

    Attributes:
        tag: its tag.
        id: its id on the engine; every build has another one.
        base: its base image, and the source of that.
        versions: the versions of libvirt and QEMU.
        source: hash of its source folder and build parameters; empty if unknown.
    """

    tag: str
    id: str
    base: str
    versions: dict[str, str] = Field(default_factory=dict)
    source: str = ""

    @property
    def identity(self) -> str:
        """Return a value that is equal for equivalent images: source and versions, else the id."""
        return f"{self.source} {sorted(self.versions.items())}" if self.source else self.id


class Dated(Data):
    """The fields of every kind of record.

    Attributes:
        run: the run's id; ids sort by time.
        time: the time of writing.
        host: the engine's host.
        image: the image under test.
        mode: the mode's id.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    run: str = Field(pattern=RUN_ID)
    time: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    host: Host
    image: Image
    mode: str


Kind = TypeVar("Kind", bound=Dated)


class Record(Dated):
    """One verdict.

    Attributes:
        asked: digest of contract, suite, harness and media; empty if unknown.
        checks: names of all checks of the feature in this mode, so that incomplete runs are recognised.
        cause: id of the recognised cause in the contract, if any.
        reason: why the verdict is not *works*, in one line.
        accel: the guests' accelerator; None if there was no guest.
        seconds: the check's duration.
        evidence: the observations.
    """

    feature: str
    check: str
    checks: tuple[str, ...]
    asked: str = ""
    verdict: Verdict
    cause: str = ""
    reason: str = ""
    accel: Literal["kvm", "tcg"] | None = None
    seconds: float = Field(ge=0)
    evidence: dict[str, Any] = Field(default_factory=dict)

    def asks_the_same_as(self, other: "Record") -> bool:
        """Return whether another record of its cell should agree: same check, host, image, tests and accelerator."""
        return (
            self.check == other.check
            and self.host == other.host
            and self.image.id == other.image.id
            and (self.run == other.run or self.asked == other.asked != "")
            # A guest that did not start has no accelerator. KVM and emulation may have different verdicts.
            and (self.accel == other.accel or None in (self.accel, other.accel))
        )


def file_name(host: str, run: str) -> str:
    """Return the name of the file for a run on a host."""
    return f"{host}-{run}.jsonl"


def line(record: BaseModel) -> str:
    """Return a record as a line of its file."""
    return record.model_dump_json(by_alias=True) + "\n"


class Recorder:
    """Appends records to a run's own file; each is complete and on disk before the next check starts.

    Args:
        folder: the folder of records, for example ``results/``.
        host: the host's name, for the file's name.
        run: the run's id, for the file's name.

    Attributes:
        records: the records of this process; others may append to the same file.
    """

    def __init__(self, folder: Path, host: str, run: str) -> None:
        self.run = run
        self.path = folder / file_name(host, run)
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Write one record.

        Raises:
            HarnessError: the record cannot be written; the file is unchanged, and the error has its verdict.
        """
        self.records.append(record)
        try:
            append(self.path, record)
        except HarnessError as error:
            self.records.pop()
            lost = f"{record.feature} in {record.mode}, {record.check}: {record.verdict.words}"
            raise HarnessError(f"{error.message}; not recorded: {lost}", error.remedy) from error


def append(path: Path, record: BaseModel) -> None:
    """Append one complete record to a file and sync it to disk; other processes may append at the same time.

    Raises:
        HarnessError: the record cannot be written; the file is unchanged, and the log gets the record.
    """
    written = line(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a buffer would be flushed on closing, even after an error.
        with path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # else truncating half of this record could remove another one
            whole = file.seek(0, os.SEEK_END)
            try:
                rest = written.encode()
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException as error:
                # Half a line would make the file unreadable; on ctrl-C a complete line stays.
                if isinstance(error, OSError) or not _ends_a_line(path):
                    os.ftruncate(file.fileno(), whole)
                raise
    except OSError as error:
        LOG.error("not recorded: %s", written.strip())
        raise HarnessError(
            f"cannot write the record to {path}: {error.strerror}",
            files.remedy(error, "name another folder with --results"),
        ) from error


def _ends_a_line(path: Path) -> bool:
    return path.read_bytes()[-1:] in (b"", b"\n")


def read(place: Path) -> Iterator[Record]:
    """Read all records of a folder or file, oldest run first; raises HarnessError as :func:`read_all` does."""
    yield from read_all(place, Record)


def read_all(place: Path, kind: type[Kind]) -> Iterator[Kind]:
    """Read all records of a kind in a folder, or in one file, oldest run first.

    Raises:
        HarnessError: a line is not a record of this schema; names the file and the line.
    """
    files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
    records = [record for file in files for record in read_file(file, kind)]
    yield from sorted(records, key=lambda record: record.run)


def read_file(file: Path, kind: type[Kind]) -> Iterator[Kind]:
    """Read the records of one file; raises HarnessError as :func:`read_all` does."""
    try:
        with file.open(encoding="utf-8") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH)  # a run may be appending a line
            lines = opened.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"cannot read {file}: {error}", "name a file of records that a run wrote") from error
    for number, text in enumerate(lines, start=1):
        try:
            yield kind.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HarnessError(
                f"{file.name}:{number} is not a record: {where}: {first['msg']}",
                "remove the line, or restore the file as the run wrote it",
            ) from error
