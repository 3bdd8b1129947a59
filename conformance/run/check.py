"""One test in one mode: its expectation, evidence, verdict and record."""

import ast
import functools
import hashlib
import json
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from conformance.guests.guest import Guest
from conformance.model.contract import Cause, Feature
from conformance.model.record import Record
from conformance.model.verdict import KnownFailure, Verdict, blames_image
from conformance.run.context import Run
from conformance.util import paths

ERROR_CHARACTERS = 8000
"""As much of an error's text as a record keeps: the console's and the logs' ends are in it."""


REPORTING = frozenset("bench ci cli doctor lab mutation privileges report selfcheck workers".split())
"""Packages that select tests, run labs or show results: none of them can change a verdict. Every other package counts,
so that a new one cannot be forgotten."""

INSTALLED = frozenset({"data", "suites"})
"""Packages of a wheel that lie elsewhere in the repository; what they hold is counted by itself."""


@functools.cache
def digest(*files: Path) -> str:
    """Return a digest of everything that can change a verdict, beside host and image.

    That is the files, such as the contract and a suite, the project's own contract, on which another one may build, the
    harness but for :data:`REPORTING`, and its media. Of code and contracts their meaning counts: neither comments nor
    docstrings, nor how they are laid out.
    """
    made = hashlib.sha256(_harness().encode())
    for path in dict.fromkeys((paths.CONTRACT, *files)):
        made.update(_meaning(path))
    return made.hexdigest()[:16]


@functools.cache
def _harness() -> str:
    modules = (path for path in paths.PACKAGE.rglob("*.py") if _part(path) not in REPORTING | INSTALLED)
    media = (path for path in paths.ISOS.rglob("*") if path.is_file())
    made = hashlib.sha256()
    for path in (*sorted(modules), *sorted(media)):
        made.update(_meaning(path))
    return made.hexdigest()


def _part(module: Path) -> str:
    """Return the name of a module of the harness, or of the package that it is in."""
    return module.relative_to(paths.PACKAGE).with_suffix("").parts[0]


def _meaning(path: Path) -> bytes:
    """Return a digest of what a file says to a program."""
    content = path.read_bytes()
    if path.suffix == ".py":
        tree = ast.parse(content)
        for node in ast.walk(tree):
            for field_, body in ast.iter_fields(node):
                if isinstance(body, list):
                    setattr(node, field_, [one for one in body if not _is_docstring(one)])
        content = ast.dump(tree).encode()
    elif path.suffix == ".toml":
        content = json.dumps(tomllib.loads(content.decode()), sort_keys=True, default=str).encode()
    return hashlib.sha256(content).digest()


def _is_docstring(statement: object) -> bool:
    """Say whether a statement is a text and nothing more, as docstrings of modules, functions and attributes are."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


Phase = Literal["setup", "call", "teardown"]


@dataclass
class Check:
    """One test, and its evidence so far.

    Attributes:
        feature: the tested feature.
        mode: in which mode.
        check: the test's name without its mode.
        checks: the names of all tests that the feature has in this mode.
        asked: digest of everything that can change the verdict (:func:`digest`).
        expected: the cause for which it is expected to fail; none where it is expected to work.
        evidence: observations; suites add to it.
        boots: the guests that were used.
        unsupported: why it cannot be tested on this host.
        started: when its set-up began, on the monotonic clock.
    """

    feature: Feature
    mode: str
    check: str
    checks: tuple[str, ...]
    asked: str = ""
    expected: Cause | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    boots: list[Guest] = field(default_factory=list)
    unsupported: str = ""
    started: float = 0.0

    def judge(self, error: BaseException | None, *, skipped: bool, after: bool = False) -> Verdict:
        """Return the verdict of an outcome under the expectation.

        Args:
            error: what ended the test, or None where nothing did.
            skipped: whether that was a skip.
            after: whether the test itself had its verdict already, and this is about what came after it.
        """
        if isinstance(error, KnownFailure):
            return Verdict.KNOWN_FAILURE
        if skipped:
            return Verdict.UNSUPPORTED if self.unsupported else Verdict.NOT_RUN
        if error is None:
            return Verdict.FIXED if self.expected and not after else Verdict.WORKS
        return Verdict.FAILS if blames_image(error) else Verdict.ERROR

    def record(self, run: Run, verdict: Verdict, error: BaseException | None) -> Record:
        """Make the record of a verdict."""
        cause, reason = self._why(run, verdict, error)
        under_kvm = {bool(guest.kvm.get("enabled")) for guest in self.boots}
        evidence = self.evidence | {"guests": [guest.evidence() for guest in self.boots]}
        if verdict not in (Verdict.WORKS, Verdict.FIXED) and error is not None:
            evidence["error"] = str(error)[-ERROR_CHARACTERS:]
        return Record(
            run=run.recorder.run,
            host=run.host,
            image=run.image,
            mode=self.mode,
            feature=self.feature.id,
            check=self.check,
            checks=self.checks,
            asked=self.asked,
            verdict=verdict,
            cause=cause,
            reason=reason,
            accel=("kvm" if under_kvm.pop() else "tcg") if len(under_kvm) == 1 else None,
            seconds=round(time.monotonic() - self.started, 2),
            evidence=evidence,
        )

    def _why(self, run: Run, verdict: Verdict, error: BaseException | None) -> tuple[str, str]:
        """Return a recognised cause's id, and the reason in one line."""
        if verdict is Verdict.WORKS:
            return "", ""
        if verdict is Verdict.FIXED:
            return "", "works, although it is known to fail: the contract is behind"
        text = self.unsupported or str(error).strip() or repr(error)
        cause = None if verdict is Verdict.UNSUPPORTED else run.contract.recognise(text, run.host.security)
        return cause.id if cause else "", text.splitlines()[0]
