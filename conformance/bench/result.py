"""The result of one run of the benchmark, as a JSON file in results/bench."""

import contextlib
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import HarnessError
from conformance.guests.spec import Accel
from conformance.model import record


class Data(BaseModel):
    """Frozen data that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Measurement(Data):
    """One measurement, repeated if it is cheap.

    Attributes:
        id: a target's id, or the id of an explanation.
        values: the value of each repetition, in their order.
        detail: components of the values.
    """

    id: str
    values: list[float] = Field(min_length=1)
    detail: dict[str, Any] = Field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)


class Result(Data):
    """One run of the benchmark.

    Attributes:
        run: its id, which sorts by time.
        load: the machine's load averages over 1, 5 and 15 minutes before the start.
        accel: the guests' accelerator.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    run: str
    time: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    host: record.Host
    image: record.Image
    load: tuple[float, float, float]
    accel: Accel
    measurements: tuple[Measurement, ...]

    def of(self, measured: str) -> Measurement | None:
        """Return a measurement, or None if it is missing."""
        return next((one for one in self.measurements if one.id == measured), None)

    def write(self, folder: Path) -> Path:
        """Write the result into a file of its own, and return the file.

        Raises:
            HarnessError: the file cannot be written.
        """
        file = folder / f"{self.host.name}-{self.run}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            with contextlib.suppress(OSError):
                file.unlink()
            raise HarnessError(f"cannot write {file}: {error.strerror}", "make room, and run it again") from error
        return file


def read(folder: Path) -> list[Result]:
    """Return all results of a folder, the newest first.

    Raises:
        HarnessError: a file is not a result.
    """
    return sorted(map(_read, folder.glob("*.json")), key=lambda result: result.run, reverse=True)


def _read(file: Path) -> Result:
    try:
        return Result.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise HarnessError(
            f"{file.name} is not a result of the benchmark: {error}", "remove the file, and measure again"
        ) from error
