"""Records: one JSON line for each verdict, written as it falls."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import HarnessError
from conformance.model.verdict import Verdict

HOST_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What records may call a host: it is part of their file's name."""

RUN_ID = r"^[A-Za-z0-9-]+$"
"""What records may call a run: that, too."""

Identity = tuple[str, ...]
"""What tells two hosts apart."""


class Data(BaseModel):
    """What records are made of."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Host(Data):
    """Where the engine ran."""

    name: str = Field(pattern=HOST_NAME)
    fingerprint: dict[str, str | int]

    @property
    def identity(self) -> Identity:
        """Return what tells this host from others: its name and its machine.

        A name that was made from the engine is another machine's as well. What an upgrade changes, such as the
        kernel, is the same host's history.
        """
        return (self.name, *(str(self.fingerprint.get(fact, "")) for fact in ("arch", "cpu", "cpus")))

    @property
    def security(self) -> str:
        """Return the security options of its engine, such as AppArmor, in a line."""
        return str(self.fingerprint.get("security", ""))


def names(hosts: Iterable[Host]) -> dict[Identity, str]:
    """Return what to call each host: its name; its machine as well, where another one has the same name."""
    known = {one.identity: one for one in hosts}
    shared = Counter(one.name for one in known.values())
    return {identity: _described(one) if shared[one.name] > 1 else one.name for identity, one in known.items()}


def _described(host: Host) -> str:
    arch, cpu, cpus = (fact or "unknown" for fact in host.identity[1:])
    return f"{host.name} (architecture {arch}, processor {cpu}, {cpus} CPUs)"


class Image(Data):
    """What was judged.

    Attributes:
        tag: its name.
        id: the engine's name of it; another one for each build, also of the same folder.
        base: what it was built on, and where that came from.
        versions: of libvirt and QEMU.
        source: hash of the folder and the build parameters that it was built from; empty where that is not known.
    """

    tag: str
    id: str
    base: str
    versions: dict[str, str] = Field(default_factory=dict)
    source: str = ""

    @property
    def identity(self) -> str:
        """Return what is the same for images that have to behave alike: their source and versions, else their id."""
        return f"{self.source} {sorted(self.versions.items())}" if self.source else self.id


class Dated(Data):
    """What every kind of record says.

    Attributes:
        run: which run; its id sorts by time.
        time: when it was written.
        host: where the engine ran.
        image: what was judged.
        mode: in which mode.
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
        asked: digest of all that asked: contract, suite, harness and media; empty where it is not known.
        checks: names of all checks that the feature has in this mode, so that a reader can tell a whole
            answer from a part of it.
        cause: id of a cause in the contract, where one was recognised.
        reason: why it is not simply *works*, in one line.
        accel: how the guests ran; none where no guest was needed.
        seconds: how long the check took.
        evidence: what was seen.
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
        """Say whether this and another record of its cell have to agree: same host, same image, same question."""
        return (
            self.check == other.check
            and self.host == other.host
            and self.image.id == other.image.id
            and (self.run == other.run or self.asked == other.asked != "")
            # A guest that did not start ran in no way; asked of KVM and asked of emulation are two questions.
            and (self.accel == other.accel or None in (self.accel, other.accel))
        )


def file_name(host: str, run: str) -> str:
    """Return how the file of a run on a host is called."""
    return f"{host}-{run}.jsonl"


def line(record: BaseModel) -> str:
    """Return a record as a file has it."""
    return record.model_dump_json(by_alias=True) + "\n"


class Recorder:
    """Appends records to a run's own file, each of them whole and on disk before the next check starts.

    Args:
        folder: where the records are kept, for example ``results/``.
        host: the host's name, part of the file's name.
        run: the run's id, part of the file's name.

    Attributes:
        records: what was appended by this process; others may write to the same file.
    """

    def __init__(self, folder: Path, host: str, run: str) -> None:
        self.run = run
        self.path = folder / file_name(host, run)
        self.records: list[Record] = []

    def append(self, record: Record) -> None:
        """Write one record.

        Raises:
            HarnessError: it cannot be written; nothing of it is left in the file, and the error carries it.
        """
        self.records.append(record)
        append(self.path, record)


def append(path: Path, record: BaseModel) -> None:
    """Write one record to the end of a file, whole and on disk; other processes may do so at the same time.

    Raises:
        HarnessError: it cannot be written; nothing of it is left in the file, and the error carries it.
    """
    written = line(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what a buffer still holds after an error would be written at the end all the same.
        with path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # else another's record could be cut off with half of this one
            whole = file.seek(0, os.SEEK_END)
            try:
                rest = written.encode()
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException as error:
                # Half a line would make the whole file unreadable; a whole one is kept on ctrl-C.
                if isinstance(error, OSError) or not _ends_a_line(path):
                    os.ftruncate(file.fileno(), whole)
                raise
    except OSError as error:
        raise HarnessError(
            f"cannot write the record to {path}: {error.strerror}; it was: {written.strip()}",
            "make room or give another folder with --results, and run again",
        ) from error


def _ends_a_line(path: Path) -> bool:
    return path.read_bytes()[-1:] in (b"", b"\n")


def read(place: Path) -> Iterator[Record]:
    """Read all records of a folder or one file, oldest run first; raises what :func:`read_all` raises."""
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
            fcntl.flock(opened, fcntl.LOCK_SH)  # a run that goes on may be writing a line
            lines = opened.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"cannot read {file}: {error}", "name a file of records, which runs write") from error
    for number, text in enumerate(lines, start=1):
        try:
            yield kind.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HarnessError(
                f"{file.name}:{number} is not a record: {where}: {first['msg']}",
                "mend or remove the line; records are written by runs only",
            ) from error
