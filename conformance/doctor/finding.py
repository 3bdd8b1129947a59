"""The doctor's input, an inspection, and her output, a report of findings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from conformance.doctor.survey import Survey
from conformance.engine.client import Engine
from conformance.engine.connect_errors import NoEngineError
from conformance.engine.image import ImageInfo
from conformance.errors import EngineError
from conformance.host.kvm import HostKvm
from conformance.model import mode as modes
from conformance.model.contract import Contract
from conformance.model.mode import Mode

State = Literal["yes", "no", "unknown"]


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
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def nothing_runs(self) -> bool:
        """Return whether nothing can be tested here."""
        return any(one.vital and one.state == "no" for one in self.findings)

    @property
    def everything_runs(self) -> bool:
        """Return whether everything can certainly be tested here."""
        return not any(one.state != "yes" and one.costs for one in self.findings)


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
    def local(self) -> bool:
        """Return whether containers run, or would run, on this machine."""
        return self.engine.local if self.engine else isinstance(self.refusal, NoEngineError)

    @property
    def modes(self) -> list[Mode]:
        """Return the contract's modes."""
        return [modes.from_contract(self.contract, claims.id) for claims in self.contract.modes]

    def mode_ids(self, fits: Callable[[Mode], bool]) -> tuple[str, ...]:
        """Return the ids of the modes that fit."""
        return tuple(one.id for one in self.modes if fits(one))
