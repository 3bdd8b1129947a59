"""The image at run time, as inspected: calls of other programs, and the lines of scripts that checks reach."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import ContractError
from conformance.util import files, paths

FILE = paths.SELFCHECK / "observed.json"


class Observation(BaseModel):
    """The observation of one image on one host.

    Attributes:
        calls: by program the distinct options of its calls, each with an example of its value; for firewall programs
            the distinct calls; for ``dnsmasq.conf`` its lines.
        takes_along: for each installed package the ones that cannot stay without it.
        reached: by mode and by file of the image's folder the lines that ran in some check.
        sources: by file a digest of its text at the time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: Mapping[str, tuple[tuple[str, str], ...]] = {}
    takes_along: Mapping[str, tuple[str, ...]] = {}
    reached: Mapping[str, Mapping[str, tuple[int, ...]]] = {}
    sources: Mapping[str, str] = {}

    def missed(self, mode: str, file: str, text: str, lines: tuple[int, int]) -> bool:
        """Return whether it is known that no check of a mode reaches these lines of a file with this text."""
        known = self.reached.get(mode, {}).get(file)
        if known is None or self.sources.get(file) != digest(text):
            return False
        return not any(lines[0] <= line <= lines[1] for line in known)


def digest(text: str) -> str:
    """Return a digest of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(observed: Observation, file: Path = FILE) -> None:
    """Write the observation; raises HarnessError if that fails."""
    files.write(file, observed.model_dump_json(indent=1) + "\n", "make the checkout writable")


def load(file: Path = FILE) -> Observation:
    """Read the observation; raises ContractError if it is invalid."""
    try:
        return Observation.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ContractError(f"cannot read {file}: {error.strerror}", "make it: conformance mutate --inspect") from error
    except ValidationError as error:
        raise ContractError(f"{file.name} is invalid: {error}", "make it anew: conformance mutate --inspect") from error
