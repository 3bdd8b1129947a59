"""Paths of the caller and of the checkout.

The commands that run pytest change to the checkout, where pytest finds the suites. Relative paths on the command line
belong to the caller's folder, so they become absolute first.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from conformance.plugin.settings import SETTINGS
from conformance.util import paths

PATHS = (
    *(name for one in SETTINGS.values() if one.parse is Path for name in one.options),
    *("-c", "--config-file", "--rootdir", "--confcutdir", "--ignore", "--ignore-glob"),
    *("--basetemp", "--junit-xml", "--junitxml", "--log-file"),
)
"""Options of the matrix, ours and pytest's, whose value is a file or a folder."""


def with_absolute_paths(words: Sequence[str]) -> list[str]:
    """Return pytest's options with absolute paths; relative ones are relative to the caller's folder."""
    made = []
    before = ""
    for word in words:
        option, equals, value = word.partition("=")
        if before in PATHS:
            made.append(str(Path(word).absolute()))
        elif equals and value and option in PATHS:
            made.append(f"{option}={Path(value).absolute()}")
        else:
            made.append(word)
        before = "" if before in PATHS else word
    return made


def enter() -> None:
    """Change to the checkout, where pytest finds the suites; makes CONFORMANCE_CACHE absolute first."""
    if cache := os.environ.get("CONFORMANCE_CACHE"):
        os.environ["CONFORMANCE_CACHE"] = str(Path(cache).absolute())
    os.chdir(paths.PROJECT)
