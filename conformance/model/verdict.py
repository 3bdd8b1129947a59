"""Verdicts: what evidence means beside the expectation."""

from collections.abc import Iterable
from enum import StrEnum

import libvirt

from conformance.errors import HarnessError, LabError
from conformance.model.contract import Cause

FULL_DISK = "No space left on device"

CRASH = "Kernel panic - not syncing: Fatal exception"
"""How Linux ends that met what should not be (oops_end() in arch/x86/kernel/dumpstack.c), not what it cannot start."""

EMULATIONS_FAULT = "its kernel crashed, and the host is emulated itself"


class Verdict(StrEnum):
    """What a check found out.

    Only ``works``, ``fails``, ``known-failure`` and ``fixed`` make a claim about the image.
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
        """Return it as people write it."""
        return self.replace("-", " ")

    @property
    def decided(self) -> bool:
        """Say whether this makes a claim."""
        return self in (Verdict.WORKS, Verdict.FAILS, Verdict.KNOWN_FAILURE, Verdict.FIXED)

    @property
    def bad(self) -> bool:
        """Say whether somebody has to look at it."""
        return self in (Verdict.FAILS, Verdict.FIXED, Verdict.ERROR)


MEANINGS = {
    Verdict.WORKS: "documented to work, and the evidence is complete",
    Verdict.FAILS: "documented to work, and did not; or failed for another cause than the documented one",
    Verdict.KNOWN_FAILURE: "known to fail, failed, and the cause was recognised",
    Verdict.FIXED: "known to fail, and works: the contract is behind",
    Verdict.UNSUPPORTED: "this host cannot be asked: no usable KVM, or an engine that cannot grant what the mode needs",
    Verdict.NOT_RUN: "nobody asked, or an input is missing",
    Verdict.ERROR: "the harness or the engine broke; says nothing about the image",
}

FLAKY = "runs on one host and image that asked the same gave different answers; says in how many it was the best one"

_GRAVITY = (
    Verdict.ERROR,
    Verdict.FAILS,
    Verdict.FIXED,
    Verdict.KNOWN_FAILURE,
    Verdict.NOT_RUN,
    Verdict.UNSUPPORTED,
    Verdict.WORKS,
)
"""A cell of several checks is worth its gravest: it works only where every check of it did."""


class KnownFailure(Exception):
    """Raised in place of a failure whose documented cause was recognised; nothing else may count as one."""

    def __init__(self, cause: Cause, error: BaseException) -> None:
        super().__init__(f"{cause.explanation} [{error}]")
        self.cause = cause


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """Return what a cell of these checks is worth; not-run without any."""
    return min(verdicts, key=_GRAVITY.index, default=Verdict.NOT_RUN)


def blames_image(error: BaseException) -> bool:
    """Say whether an exception is evidence against the image.

    That is what a suite asserts and what libvirt answers; anything else broke in the harness or the engine. So did
    a full disk, whoever reports it: the image's volumes are as large as the engine's disk.
    """
    evidence = isinstance(error, AssertionError | libvirt.libvirtError) and not isinstance(error, HarnessError)
    return evidence and FULL_DISK not in str(error)


def at_fault(error: BaseException | None, *, emulated: bool) -> BaseException | None:
    """Return what ended a test; where a guest's kernel crashed on a host that is emulated itself, that the lab broke.

    Args:
        error: what the test raised.
        emulated: whether the host is.
    """
    if emulated and error is not None and blames_image(error) and CRASH in str(error):
        first, _, rest = str(error).partition("\n")
        return LabError(f"{first}: {EMULATIONS_FAULT}\n{rest}", "ask again")
    return error


def recognised(expected: Cause | None, error: BaseException) -> KnownFailure | None:
    """Return the known failure that an exception is, if its cause is the expected one."""
    if expected and blames_image(error) and expected.explains(str(error)):
        return KnownFailure(expected, error)
    return None
