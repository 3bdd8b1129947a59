"""Promises of the documentation about the image, the checks that prove them, and the gaps between both."""

import ast
import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, RootModel, StringConstraints, ValidationError

from conformance.errors import ContractError
from conformance.report import sentences
from conformance.util import paths

FILE = paths.PROJECT / "claims.toml"

CONTRACT = "contract.toml"
"""The page whose sentences are the claims of the contract's features."""

Check = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9-]*|tests/[\w/]+\.py)::test_\w+$")]
"""``feature::test`` for a test of a suite; ``tests/PATH.py::test`` for one of the project's own tests."""


class Page(BaseModel):
    """The judgement of each sentence of a page.

    Attributes:
        promises: the sentences that promise something of the image, with the checks that prove each.
        other: the sentences that do not: explanations, advice, promises of the harness.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    promises: dict[str, tuple[Check, ...]] = {}
    other: tuple[str, ...] = ()


class _Pages(RootModel[dict[str, Page]]):
    pass


@dataclass(frozen=True)
class Gap:
    """A difference between a page and its judgement.

    Attributes:
        page: the page's path in the project.
        problem: the kind of the gap.
        subject: the sentence or the check.
        remedy: the step that closes it.
    """

    page: str
    problem: str
    subject: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.page}: {self.problem}: {self.subject}\n  what to do: {self.remedy}"


def load(file: Path = FILE) -> Mapping[str, Page]:
    """Read the judgements of all pages, by the pages' paths in the project.

    Raises:
        ContractError: the file cannot be read, or is invalid.
    """
    try:
        return _Pages.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).root
    except OSError as error:
        raise ContractError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ContractError(
            f"{file.name} is invalid: {error}", 'correct it; docs/development.md describes it in "Add a promise"'
        ) from error


def gaps(pages: Mapping[str, Page], project: Path = paths.PROJECT) -> Iterator[Gap]:
    """Yield the differences between the pages and their judgements."""
    for name, page in pages.items():
        present = _sentences(project / name)
        for sentence in present:
            if sentence not in page.promises and sentence not in page.other:
                yield Gap(
                    name, "sentence without judgement", sentence, "add it to claims.toml: with checks, or to other"
                )
            if sentence in page.promises and sentence in page.other:
                yield Gap(name, "sentence with two judgements", sentence, "remove one of them from claims.toml")
        for sentence in dict.fromkeys((*page.promises, *page.other)):
            if sentence not in present:
                yield Gap(name, "judged sentence is not in the page", sentence, "remove or update it in claims.toml")
        for sentence, checks in page.promises.items():
            if not checks:
                yield Gap(name, "promise without a check", sentence, "write a check, or correct the sentence")
            for check in checks:
                if not _exists(check, project):
                    yield Gap(name, "check does not exist", check, f'name another check of "{sentence}"')


def _sentences(page: Path) -> list[str]:
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ContractError(
            f"cannot read {page}, which claims.toml names: {error.strerror}", "correct the page's path in claims.toml"
        ) from error
    if page.name == CONTRACT:
        return [feature["claim"] for feature in tomllib.loads(text)["features"]]
    return sentences.split(text)


def _exists(check: str, project: Path) -> bool:
    place, _, test = check.partition("::")
    file = project / (place if place.endswith(".py") else f"suites/test_{place.replace('-', '_')}.py")
    return test in _functions(file)


@functools.cache
def _functions(file: Path) -> frozenset[str]:
    """Return the names of a module's functions; none if there is no such file."""
    if not file.is_file():
        return frozenset()
    parsed = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(one.name for one in parsed.body if isinstance(one, ast.FunctionDef))
