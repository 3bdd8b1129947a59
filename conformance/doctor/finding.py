"""What the doctor knows of a machine, and what she says of it."""

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
    """One thing that was looked at.

    Attributes:
        id: for scripts.
        title: for people.
        state: whether it is there.
        seen: what was seen.
        means: what follows for modes and features.
        remedy: what to change; empty where it is there.
        features: features that cannot be asked without it.
        modes: modes that cannot be asked without it.
        vital: nothing at all can be asked without it.
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
        """Say whether something cannot be asked without this."""
        return self.vital or bool(self.modes or self.features)


@dataclass(frozen=True)
class Report:
    """All that was found."""

    findings: tuple[Finding, ...]

    @property
    def nothing_runs(self) -> bool:
        """Say whether nothing can be asked here."""
        return any(one.vital and one.state == "no" for one in self.findings)

    @property
    def everything_runs(self) -> bool:
        """Say whether everything can be asked here, and that is certain."""
        return not any(one.state != "yes" and one.costs for one in self.findings)


@dataclass(frozen=True)
class Inspection:
    """What the findings are made from.

    Attributes:
        contract: for the modes.
        engine: the engine that answers, if one does.
        refusal: why none does.
        image: an image that it has, if it has one.
        survey: of the engine's machine; none where it could not be looked at.
        kvm: whether that machine's KVM runs a kernel; none where that could not be tried.
    """

    contract: Contract
    engine: Engine | None
    refusal: EngineError | None
    image: ImageInfo | None
    survey: Survey | None
    kvm: HostKvm | None

    @property
    def local(self) -> bool:
        """Say whether containers run, or would run, on this machine."""
        return self.engine.local if self.engine else isinstance(self.refusal, NoEngineError)

    @property
    def modes(self) -> list[Mode]:
        """Return the contract's modes."""
        return [modes.from_contract(self.contract, claims.id) for claims in self.contract.modes]

    def those(self, fits: Callable[[Mode], bool]) -> tuple[str, ...]:
        """Return the ids of the modes that fit."""
        return tuple(one.id for one in self.modes if fits(one))
