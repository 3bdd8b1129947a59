"""The modes and tests of a run: the mode recommended for a kind of host, and profiles."""

from typing import Literal

from pydantic import Field

from conformance.model.exposure import Data


class Recommendation(Data):
    """The mode to use on one kind of host."""

    host: str
    """The kind of host, for readers."""
    security: str
    """The security module that the host's engine reports; empty for every host."""
    mode: str

    def fits(self, security: str) -> bool:
        """Return whether a host is of this kind.

        Args:
            security: the security options of the host's engine, as records hold them.
        """
        return self.security in security


class Profile(Data):
    """A selection of tests: features, checks, and modes."""

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    summary: str
    features: tuple[str, ...] = ()
    """Ids of the features to test; empty for all."""
    modes: Literal["all", "recommended"]
    """The modes to test unless the user names some: all, or the one recommended for the host."""
    checks: Literal["all", "essential"]
    """The checks of each feature: all, or the essential ones if it has any."""

    @property
    def partial(self) -> bool:
        """Return whether some checks of a tested feature do not run."""
        return self.checks == "essential"

    def tests(self, feature: str) -> bool:
        """Return whether the profile tests a feature."""
        return not self.features or feature in self.features
