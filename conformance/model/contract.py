"""The contract: the documentation's claims as data, checked when they are read."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from conformance.errors import ContractError
from conformance.model.exposure import Data, Exposure, Permission
from conformance.util import paths


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Regex = Annotated[str, AfterValidator(_compiles)]
"""A regular expression in Python's syntax."""


class ImageClaims(Data):
    """How the image under test is started and reached, and where it keeps what it is asked about.

    Attributes:
        port: the API's TCP port in the container.
        path: of the libvirt URI.
        auth: how libvirt lets clients in over TCP.
        command: what the container runs in place of the image's own command; empty for that.
        port_variable: the environment variable that gives the API another port; empty where there is none.
        images: the folder of guests' images.
        logs: the folder of QEMU's logs.
        user: who owns images and logs.
        group: the same.
        extras: whether it has what ours has beside the features: a health check, a user with the numbers of the build
            parameters, and a start-up that names what is missing.
    """

    port: int = Field(ge=1, le=65535)
    path: str
    auth: Literal["none", "sasl"] = "none"
    command: tuple[str, ...] = ()
    port_variable: str = Field(default="", alias="port-variable")
    images: str = "/var/lib/libvirt/images"
    logs: str = "/var/log/libvirt/qemu"
    user: str = "libvirt"
    group: str = "libvirt"
    extras: bool = False


class Parameter(Data):
    """A build parameter of the image."""

    name: str
    default: str
    description: str


class Volume(Data):
    """A folder that the image exposes as a volume."""

    path: str
    name: str
    """Under this name the rendered commands keep the volume."""
    permission: Permission
    description: str


class Feature(Data):
    """One thing that the documentation claims."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str
    claim: str
    pending: str = ""
    """Why nothing can be asked yet; empty for a feature with a suite."""
    on_request: str = Field(default="", alias="on-request")
    """Why it is asked only where it is asked for by name, and how; empty for what every run asks."""
    searched: bool = True
    """Whether a search for privileges asks it: some of its checks are marked ``essential``."""

    @property
    def marker(self) -> str:
        """Return the pytest marker that selects this feature."""
        return self.id.replace("-", "_")

    @property
    def unasked(self) -> str:
        """Say why a run asked nothing of it; empty where only the user can know."""
        return self.pending or self.on_request


class HostAccess(Data):
    """Something that a container can do to its host."""

    id: str
    title: str
    modes: tuple[str, ...]
    """In which it is known that it can, on some host: a security module may keep it from it."""


class Switch(Data):
    """Something that the image does unless it is told not to, and that takes privileges."""

    id: str
    variable: str
    off: str
    """The variable's value that tells it not to."""
    function: str


class ModeClaims(Data):
    """A named set of exposures, as the contract writes it: by their ids."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    summary: str
    exposures: tuple[str, ...]
    default_capabilities: bool = True
    """Whether there is what an engine gives without being asked, beside what is named."""
    switched_off: tuple[str, ...] = ()
    """Switches of the image."""


class Cause(Data):
    """Why something fails, and how that reason is recognised."""

    id: str
    pattern: Regex
    explanation: str
    refusal: Regex = ""
    """What the kernel's log says of it where AppArmor is the cause; a regular expression, empty for other causes."""
    confined_by: Literal["", "apparmor", "selinux"] = ""
    """The security module without which this is not the cause, whatever an error's text; empty for other causes."""
    foreseen: str = ""
    """What the image names at its start where this is going to happen; empty where it cannot know."""

    def explains(self, text: str) -> bool:
        """Say whether this cause is visible in an error's text."""
        return re.search(self.pattern, text) is not None

    def refuses(self, refusal: str) -> bool:
        """Say whether this cause is a refusal that the kernel logged."""
        return bool(self.refusal) and re.search(self.refusal, refusal) is not None


class KnownFailure(Data):
    """An expectation: this feature fails in these modes, for this cause."""

    feature: str
    modes: tuple[str, ...]
    cause: str
    source: str
    checks: tuple[str, ...] = ()
    """Names of the suite's tests that fail, with or without parameters; empty for all of them."""


Named = TypeVar("Named", Feature, ModeClaims, Cause, HostAccess)


class Contract(Data):
    """Everything that the documentation claims."""

    schema_: Literal[1] = Field(alias="schema")
    image: ImageClaims
    parameters: tuple[Parameter, ...]
    volumes: tuple[Volume, ...]
    features: tuple[Feature, ...]
    unpromised: tuple[Feature, ...] = ()
    """Features that suites ask about, and this image does not promise."""
    exposures: tuple[Exposure, ...]
    switches: tuple[Switch, ...] = ()
    powers: tuple[HostAccess, ...] = ()
    dangers: tuple[str, ...] = ()
    """Exposures that one would rather do without, the worst first; a search for less tries them in this order."""
    modes: tuple[ModeClaims, ...]
    causes: tuple[Cause, ...] = ()
    known_failures: tuple[KnownFailure, ...] = Field(default=(), alias="known-failures")

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> "Contract":
        features = {feature.id for feature in self.features}
        exposures = {exposure.id for exposure in self.exposures}
        switches = {switch.id for switch in self.switches}
        modes = {mode.id for mode in self.modes}
        causes = {cause.id for cause in self.causes}
        for kind, ids in (
            ("feature", [feature.id for feature in self.features]),
            ("exposure", [one.id for one in (*self.exposures, *self.switches)]),
            ("mode", [mode.id for mode in self.modes]),
            ("power", [power.id for power in self.powers]),
            ("cause", [cause.id for cause in self.causes]),
        ):
            for twice in {one for one in ids if ids.count(one) > 1}:
                raise ValueError(f"{kind} {twice!r} is defined twice")
        _known("exposure", self.dangers, exposures, "dangers")
        for mode in self.modes:
            _known("exposure", mode.exposures, exposures, f"mode {mode.id!r}")
            _known("switch", mode.switched_off, switches, f"mode {mode.id!r}")
        for power in self.powers:
            _known("mode", power.modes, modes, f"power {power.id!r}")
        for failure in self.known_failures:
            where = f"known failure of {failure.feature!r}"
            _known("feature", [failure.feature], features, where)
            _known("mode", failure.modes, modes, where)
            _known("cause", [failure.cause], causes, where)
        return self

    @cached_property
    def _exposure_by_id(self) -> dict[str, Exposure]:
        return {exposure.id: exposure for exposure in self.exposures}

    @property
    def searched(self) -> tuple[Feature, ...]:
        """Return the features that a search for privileges asks."""
        return tuple(one for one in self.features if one.searched and not one.pending)

    def feature(self, feature_id: str) -> Feature:
        """Return a feature; raises ContractError that lists the known ones."""
        return _find("feature", feature_id, self.features)

    def mode(self, mode_id: str) -> ModeClaims:
        """Return a mode; raises ContractError that lists the known ones."""
        return _find("mode", mode_id, self.modes)

    def cause(self, cause_id: str) -> Cause:
        """Return a cause; raises ContractError that lists the known ones."""
        return _find("cause", cause_id, self.causes)

    def power(self, power_id: str) -> HostAccess:
        """Return a power; raises ContractError that lists the known ones."""
        return _find("power", power_id, self.powers)

    def exposures_of(self, mode: ModeClaims) -> tuple[Exposure, ...]:
        """Return the exposures of a mode, in the contract's order."""
        return tuple(self._exposure_by_id[exposure_id] for exposure_id in mode.exposures)

    def known_failure(self, feature: str, mode: str, check: str) -> KnownFailure | None:
        """Return the expectation that this check of the feature fails in the mode, if there is one."""
        names = {check, check.partition("[")[0]}
        for failure in self.known_failures:
            if (
                failure.feature == feature
                and mode in failure.modes
                and (not failure.checks or names & {*failure.checks})
            ):
                return failure
        return None

    def foreseen(self, mode: str) -> frozenset[str]:
        """Return what the image has to name at its start in a mode, by what is known to fail there."""
        causes = {one.cause for one in self.known_failures if mode in one.modes}
        return frozenset(one.foreseen for one in self.causes if one.id in causes and one.foreseen)

    def recognise(self, text: str, security: str) -> Cause | None:
        """Return the first cause that is visible in an error's text.

        Args:
            text: the error's.
            security: what the engine of the host confines containers with, as records say it.
        """
        return next((one for one in self.causes if one.confined_by in security and one.explains(text)), None)


def _known(kind: str, wanted: Iterable[str], known: set[str], where: str) -> None:
    for one in wanted:
        if one not in known:
            raise ValueError(
                f"{where} names the {kind} {one!r}, which does not exist; known: {', '.join(sorted(known))}"
            )


def _find(kind: str, wanted: str, known: Sequence[Named]) -> Named:
    for one in known:
        if one.id == wanted:
            return one
    raise ContractError(f"no {kind} is called {wanted!r}", f"choose one of: {', '.join(one.id for one in known)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(
            f"cannot read the contract {path}: {error.strerror}",
            "run it in a checkout of the project, where contract.toml is, or name one: pytest --contract=FILE",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContractError(f"{path.name} is not TOML: {error}") from error


def _promised(data: dict[str, Any]) -> dict[str, Any]:
    """Return a contract's data with the features that are promised apart from the others.

    Raises:
        ContractError: a feature is promised that does not exist.
    """
    promises = data.pop("promises")
    known = {feature["id"]: feature for feature in data["features"]}
    for one in promises:
        if one not in known:
            raise ContractError(f"no feature is called {one!r}", f"promise some of: {', '.join(known)}")
    return data | {
        "features": [feature for feature in known.values() if feature["id"] in promises],
        "unpromised": [feature for feature in known.values() if feature["id"] not in promises],
        "known-failures": [one for one in data.get("known-failures", ()) if one["feature"] in promises],
    }


def load(path: Path = paths.CONTRACT) -> Contract:
    """Read and check a contract.

    One that says ``extends = true`` is for another image: what it does not say is as in the project's own, and its
    ``promises`` names the features that are asked.

    Raises:
        ContractError: the file cannot be read, is no TOML, or names something that does not exist.
    """
    data = _read(path)
    try:
        if data.pop("extends", False):
            data = _read(paths.CONTRACT) | data
        if "promises" in data:
            data = _promised(data)
        return Contract.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            ".".join(str(part) for part in problem["loc"]) + (": " if problem["loc"] else "") + problem["msg"]
            for problem in error.errors()
        )
        raise ContractError(f"{path.name}: {problems}") from error
