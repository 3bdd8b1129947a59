"""The doctor's input, an inspection, and her output, a report of findings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from conformance.doctor.survey import Survey
from conformance.engine.client import Engine
from conformance.engine.image import ImageInfo
from conformance.errors import EngineError
from conformance.host.kvm import HostKvm
from conformance.model import mode as modes
from conformance.model.contract import Contract
from conformance.model.mode import Mode
from conformance.model.profile import Recommendation

State = Literal["OK", "MISSING", "N/A"]
"""N/A: it could not be examined, or does not matter on this machine."""


@dataclass(frozen=True)
class Finding:
    """The state of one requirement.

    Attributes:
        id: its name for scripts.
        title: its name for people.
        state: whether the machine meets it.
        seen: the observed value.
        means: the consequence for modes and features.
        remedy: how to meet it; empty if the machine does.
        features: features that cannot be tested without it.
        modes: modes that cannot be tested without it.
        vital: whether nothing at all can be tested without it.
    """

    id: str
    title: str
    state: State
    seen: str
    means: str = ""
    remedy: str = ""
    features: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    vital: bool = False

    @property
    def costs(self) -> bool:
        """Return whether something cannot be tested without this."""
        return self.vital or bool(self.modes or self.features)


@dataclass(frozen=True)
class Report:
    """All findings, and the mode to use.

    Attributes:
        findings: in reading order.
        recommendation: the contract's for this kind of host, if it has one.
        modes: the contract's modes, in its order.
        image: the tag of the engine's image for tests, or of a base for it; empty if it has none.
        private: whether a run would use a private engine, which stops at the end of the run.
    """

    findings: tuple[Finding, ...]
    recommendation: Recommendation | None = None
    modes: tuple[Mode, ...] = ()
    image: str = ""
    private: bool = False

    @property
    def nothing_runs(self) -> bool:
        """Return whether nothing can be tested here."""
        return any(one.vital and one.state == "MISSING" for one in self.findings)

    @property
    def everything_runs(self) -> bool:
        """Return whether everything can certainly be tested here."""
        return not any(one.state != "OK" and one.costs for one in self.findings)

    @property
    def mode(self) -> Mode | None:
        """Return the mode to use: the recommended one, else the contract's first one that can run here."""
        blocked = {mode for one in self.findings if one.state == "MISSING" for mode in one.modes}
        usable = [one for one in self.modes if one.id not in blocked]
        return next((one for one in usable if self.recommends(one)), next(iter(usable), None))

    @property
    def recommended_runs(self) -> bool:
        """Return whether the recommended mode can run here; without a recommendation, whether any mode can."""
        if self.nothing_runs or self.mode is None:
            return False
        return self.recommendation is None or self.recommends(self.mode)

    def recommends(self, one: Mode) -> bool:
        """Return whether a mode is the recommended one."""
        return self.recommendation is not None and one.id == self.recommendation.mode


@dataclass(frozen=True)
class Inspection:
    """The facts that findings are made from.

    Attributes:
        contract: the contract, for its modes.
        engine: the engine that answers, if any.
        refusal: the reason why none does.
        image: an image for tests that the engine has, if any.
        survey: the survey of the engine's machine; None if it could not be examined.
        kvm: whether that machine's KVM boots a kernel; None if that could not be tried.
    """

    contract: Contract
    engine: Engine | None
    refusal: EngineError | None
    image: ImageInfo | None
    survey: Survey | None
    kvm: HostKvm | None

    @property
    def security(self) -> tuple[str, ...]:
        """Return the security modules that confine containers: as the engine reports them, else as the kernel does."""
        if self.engine:
            return self.engine.fingerprint().security
        return self.survey.security if self.survey else ()

    def denied(self, answer: str) -> bool:
        """Return whether a device refused this user only: the engine's root can open it."""
        return self.image is None and os.geteuid() != 0 and "Permission denied" in answer

    @property
    def modes(self) -> list[Mode]:
        """Return the contract's modes."""
        return [modes.from_contract(self.contract, claims.id) for claims in self.contract.modes]

    def mode_ids(self, fits: Callable[[Mode], bool]) -> tuple[str, ...]:
        """Return the ids of the modes that fit."""
        return tuple(one.id for one in self.modes if fits(one))
