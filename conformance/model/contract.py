"""The contract: the documentation's claims as data, validated on loading."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from conformance.errors import ContractError
from conformance.model.exposure import Data, Exposure, Permission
from conformance.model.profile import Profile, Recommendation
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
    """How the image under test starts, how clients reach it, and where its files are.

    Attributes:
        port: the API's TCP port in the container.
        path: the path of the libvirt URI.
        auth: libvirt's authentication of TCP clients.
        command: the container's command; empty for the image's own.
        port_variable: the environment variable that sets the API's port; empty if there is none.
        images: the folder of guests' disk images.
        logs: the folder of QEMU's logs.
        user: the owner of images and logs.
        group: the group of images and logs.
        extras: whether it has a health check, a user with the ids of the build parameters, and warnings at start that
            name missing exposures, as the project's own image has.
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
    """The volume's name in rendered commands."""
    permission: Permission
    description: str


class Feature(Data):
    """A documented feature."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    title: str
    claim: str
    pending: str = ""
    """Why it cannot be tested yet; empty for a feature with a suite."""
    on_request: str = Field(default="", alias="on-request")
    """Why it runs only on request, and how; empty for features of every run."""
    searched: bool = True
    """Whether a search for privileges tests it; some of its checks are marked ``essential``."""

    @property
    def marker(self) -> str:
        """Return the pytest marker that selects this feature."""
        return self.id.replace("-", "_")

    @property
    def unasked(self) -> str:
        """Return why a run did not test it; empty if only the user's selection can explain that."""
        return self.pending or self.on_request


class HostAccess(Data):
    """A way in which a container can affect its host."""

    id: str
    title: str
    modes: tuple[str, ...]
    """The modes in which this is known to work on some host; a security module may prevent it on others."""


class Switch(Data):
    """A function of the image that needs privileges and can be switched off."""

    id: str
    variable: str
    off: str
    """The variable's value that switches it off."""
    function: str


class ModeClaims(Data):
    """A named set of exposures, by their ids, as in the contract's file."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    summary: str
    exposures: tuple[str, ...]
    default_capabilities: bool = True
    """Whether the container has Docker's default capabilities, beside the named ones."""
    switched_off: tuple[str, ...] = ()
    """Ids of the image's switches that are off."""


class Cause(Data):
    """A cause of failures, and the patterns that recognise it."""

    id: str
    pattern: Regex
    explanation: str
    refusal: Regex = ""
    """A pattern for the kernel's log of denials by AppArmor or SELinux; empty for other causes."""
    confined_by: Literal["", "apparmor", "selinux"] = ""
    """The security module that this cause needs; empty if it needs none."""
    foreseen: str = ""
    """The exposure that the image's warning at start names; empty if it cannot foresee this."""

    def explains(self, text: str) -> bool:
        """Return whether an error's text shows this cause."""
        return re.search(self.pattern, text) is not None

    def refuses(self, refusal: str) -> bool:
        """Return whether a denial in the kernel's log is this cause."""
        return bool(self.refusal) and re.search(self.refusal, refusal) is not None


class KnownFailure(Data):
    """An expectation: this feature fails in these modes, for this cause."""

    feature: str
    modes: tuple[str, ...]
    cause: str
    source: str
    checks: tuple[str, ...] = ()
    """Names of the suite's tests that fail, with or without parameters; empty for all of them."""


Named = TypeVar("Named", Feature, ModeClaims, Profile, Cause, HostAccess)


class Contract(Data):
    """All documented claims."""

    schema_: Literal[1] = Field(alias="schema")
    image: ImageClaims
    parameters: tuple[Parameter, ...]
    volumes: tuple[Volume, ...]
    features: tuple[Feature, ...]
    unpromised: tuple[Feature, ...] = ()
    """Features that suites test and this image does not promise."""
    exposures: tuple[Exposure, ...]
    switches: tuple[Switch, ...] = ()
    powers: tuple[HostAccess, ...] = ()
    dangers: tuple[str, ...] = ()
    """Exposures, the most dangerous first; a search for privileges tries to remove them in this order."""
    modes: tuple[ModeClaims, ...]
    recommendations: tuple[Recommendation, ...] = ()
    """The mode to use by kind of host; the first one that fits a host counts."""
    profiles: tuple[Profile, ...] = ()
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
            ("profile", [profile.id for profile in self.profiles]),
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
        for one in self.recommendations:
            _known("mode", [one.mode], modes, f"recommendation for {one.host!r}")
        for profile in self.profiles:
            tested = features | {feature.id for feature in self.unpromised}
            _known("feature", profile.features, tested, f"profile {profile.id!r}")
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
        """Return the features that a search for privileges tests."""
        return tuple(one for one in self.features if one.searched and not one.pending)

    def feature(self, feature_id: str) -> Feature:
        """Return a feature; raises ContractError that lists the known ones."""
        return _find("feature", feature_id, self.features)

    def mode(self, mode_id: str) -> ModeClaims:
        """Return a mode; raises ContractError that lists the known ones."""
        return _find("mode", mode_id, self.modes)

    def profile(self, profile_id: str) -> Profile:
        """Return a profile; raises ContractError that lists the known ones."""
        return _find("profile", profile_id, self.profiles)

    def cause(self, cause_id: str) -> Cause:
        """Return a cause; raises ContractError that lists the known ones."""
        return _find("cause", cause_id, self.causes)

    def power(self, power_id: str) -> HostAccess:
        """Return a power; raises ContractError that lists the known ones."""
        return _find("power", power_id, self.powers)

    def recommendation(self, security: str) -> Recommendation | None:
        """Return the recommendation for a host, by the security options of its engine."""
        return next((one for one in self.recommendations if one.fits(security)), None)

    def modes_of(self, profile: Profile, security: str | None) -> tuple[str, ...]:
        """Return the ids of a profile's modes, in the contract's order.

        Args:
            profile: the profile.
            security: the security options of the host's engine; None if the host is not known yet: the result has the
                modes for every kind of host then.

        Raises:
            ContractError: no mode is recommended for the host.
        """
        if profile.modes == "all":
            return tuple(one.id for one in self.modes)
        found = {one.mode for one in self.recommendations if security is None or one == self.recommendation(security)}
        if not found:
            raise ContractError(
                f"profile {profile.id} tests the recommended mode, but the contract recommends none for this host"
                f" (security options: {security or 'none'})",
                "name a mode with --mode",
            )
        return tuple(one.id for one in self.modes if one.id in found)

    def exposures_of(self, mode: ModeClaims) -> tuple[Exposure, ...]:
        """Return the exposures of a mode, in the contract's order."""
        return tuple(self._exposure_by_id[exposure_id] for exposure_id in mode.exposures)

    def known_failure(self, feature: str, mode: str, check: str) -> KnownFailure | None:
        """Return the known failure of a check in a mode, if there is one."""
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
        """Return the exposures that the image must name at its start in a mode, from the mode's known failures."""
        causes = {one.cause for one in self.known_failures if mode in one.modes}
        return frozenset(one.foreseen for one in self.causes if one.id in causes and one.foreseen)

    def recognise(self, text: str, security: str) -> Cause | None:
        """Return the first cause that an error's text shows.

        Args:
            text: the error's text.
            security: the host engine's security options, in one line, as in records.
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
        raise ContractError(f"{path.name} is not TOML: {error}", "correct the file") from error


def _promised(data: dict[str, Any]) -> dict[str, Any]:
    """Return a contract's data with promised and other features separated.

    Raises:
        ContractError: a promised feature does not exist.
    """
    promises = data.pop("promises")
    known = {feature["id"]: feature for feature in data["features"]}
    for one in promises:
        if one not in known:
            raise ContractError(f"no feature is called {one!r}", f"choose from: {', '.join(known)}")
    return data | {
        "features": [feature for feature in known.values() if feature["id"] in promises],
        "unpromised": [feature for feature in known.values() if feature["id"] not in promises],
        "known-failures": [one for one in data.get("known-failures", ()) if one["feature"] in promises],
    }


def load(path: Path = paths.CONTRACT) -> Contract:
    """Load and validate a contract.

    A contract with ``extends = true`` is for another image: missing keys come from the project's own contract, and
    ``promises`` names the features to test.

    Raises:
        ContractError: the file cannot be read, is not TOML, or refers to something that does not exist.
    """
    data = _read(path)
    try:
        if data.pop("extends", False):
            if "modes" in data:
                data.setdefault("recommendations", [])  # those of the project's own modes do not apply
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
