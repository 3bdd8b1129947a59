"""One mutant: a small change of the image, and its realisation."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["setting", "shell", "object", "firewall", "argument", "process", "environment", "package"]
"""The part of the image that a mutant changes; each kind has a generator."""

ImageFiles = Mapping[str, str]
"""The text files of the image's folder, by their paths below it."""


@dataclass(frozen=True)
class Mutant:
    """A small change of the image.

    Attributes:
        kind: the changed part.
        file: the file of the image's folder that the change belongs to, or the program for a wrapper's change.
        place: the place in the file, in words that stay when other lines come or go.
        change: the change of that place.
        sentence: the defect in one sentence.
        files: the changed files of the image's folder, whole.
        programs: further programs in the image, by their paths there.
        instructions: instructions of a Dockerfile over the image.
        lines: the first and the last line of the changed statement of a script.
    """

    kind: Kind
    file: str
    place: str
    change: str
    sentence: str
    files: ImageFiles = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    instructions: str = ""
    lines: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """Return a name that stays the same while the changed place does."""
        what = hashlib.sha256("\0".join((self.kind, self.file, self.place, self.change)).encode()).hexdigest()
        name = self.file.rpartition("/")[2].partition(".")[0].lower()
        return f"{self.kind}-{name}-{what[:8]}"

    @property
    def digest(self) -> str:
        """Return a digest of the change as it is realised."""
        made = json.dumps([self.id, sorted(self.files.items()), sorted(self.programs.items()), self.instructions])
        return hashlib.sha256(made.encode()).hexdigest()[:16]
