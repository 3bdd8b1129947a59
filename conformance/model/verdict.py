"""Verdicts: the comparison of evidence with the expectation."""

from collections.abc import Iterable
from enum import StrEnum

import libvirt

from conformance.errors import HarnessError, LabError
from conformance.model.contract import Cause

FULL_DISK = "No space left on device"

CRASH = "Kernel panic - not syncing: Fatal exception"
"""The last line of a Linux kernel after an oops (oops_end() in arch/x86/kernel/dumpstack.c), not of a failed boot."""

EMULATIONS_FAULT = "the guest's kernel crashed on a host that is itself emulated"


class Verdict(StrEnum):
    """The result of a check.

    Only ``works``, ``fails``, ``known-failure`` and ``fixed`` are statements about the image.
    """

    WORKS = "works"
    FAILS = "fails"
    KNOWN_FAILURE = "known-failure"
    FIXED = "fixed"
    UNSUPPORTED = "unsupported"
    NOT_RUN = "not-run"
    ERROR = "error"

    @property
    def words(self) -> str:
        """Return the verdict as text for people."""
        return self.replace("-", " ")

    @property
    def decided(self) -> bool:
        """Return whether this is a statement about the image."""
        return self in (Verdict.WORKS, Verdict.FAILS, Verdict.KNOWN_FAILURE, Verdict.FIXED)

    @property
    def bad(self) -> bool:
        """Return whether this needs attention."""
        return self in (Verdict.FAILS, Verdict.FIXED, Verdict.ERROR)


MEANINGS = {
    Verdict.WORKS: "works as documented, and the evidence is complete",
    Verdict.FAILS: "does not work as documented, or fails for another cause than the listed one",
    Verdict.KNOWN_FAILURE: "listed as a known failure, and fails for the listed cause",
    Verdict.FIXED: "passes although listed as a known failure: update contract.toml",
    Verdict.UNSUPPORTED: "not testable on this host: no usable KVM, or the engine cannot grant the mode's privileges",
    Verdict.NOT_RUN: "not tested, or an input is missing",
    Verdict.ERROR: "the harness or the engine broke; no verdict on the image",
}

FLAKY = "identical runs on one host and image disagreed; shows how many had the best result"

_GRAVITY = (
    Verdict.ERROR,
    Verdict.FAILS,
    Verdict.FIXED,
    Verdict.KNOWN_FAILURE,
    Verdict.NOT_RUN,
    Verdict.UNSUPPORTED,
    Verdict.WORKS,
)
"""Of a cell's checks the first verdict in this order counts: the cell works only if every check does."""


class KnownFailure(Exception):
    """Replaces a failure with a recognised, listed cause; no other failure counts as known."""

    def __init__(self, cause: Cause, error: BaseException) -> None:
        super().__init__(f"{cause.explanation} [{error}]")
        self.cause = cause


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a cell with these checks; not-run without any."""
    return min(verdicts, key=_GRAVITY.index, default=Verdict.NOT_RUN)


def blames_image(error: BaseException) -> bool:
    """Return whether an exception is evidence against the image.

    A suite's failed assertion and an error from libvirt are. Any other exception comes from the harness or the engine,
    and so does a full disk, whatever reports it: the image's volumes share the engine's disk.
    """
    evidence = isinstance(error, AssertionError | libvirt.libvirtError) and not isinstance(error, HarnessError)
    return evidence and FULL_DISK not in str(error)


def at_fault(error: BaseException | None, *, emulated: bool) -> BaseException | None:
    """Return the exception that ended a test; a LabError if a guest's kernel crashed on an emulated host.

    Args:
        error: the test's exception.
        emulated: whether the host itself is emulated.
    """
    if emulated and error is not None and blames_image(error) and CRASH in str(error):
        first, _, rest = str(error).partition("\n")
        return LabError(f"{first}: {EMULATIONS_FAULT}\n{rest}", "run it again")
    return error


def recognised(expected: Cause | None, error: BaseException) -> KnownFailure | None:
    """Return the known failure for an exception that has the expected cause, else None."""
    if expected and blames_image(error) and expected.explains(str(error)):
        return KnownFailure(expected, error)
    return None
