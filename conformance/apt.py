"""What the machine's own apt says; no mirror is named in this project."""

import subprocess
from dataclasses import dataclass

_FORMAT = "$(REPO_URI)|$(ORIGIN)|$(LABEL)"


@dataclass(frozen=True)
class Mirror:
    """A Debian archive that the machine's apt uses."""

    uri: str
    security: bool

    def line(self, suite: str) -> str:
        """Return the line for sources.list that gives a suite of this archive, such as ``trixie``."""
        return f"deb {self.uri} {suite}{'-security' if self.security else ''} main"


def mirrors() -> tuple[Mirror, ...]:
    """Return the Debian archives, reached by HTTP, that apt knows from its last update; none on another system."""
    try:
        output = subprocess.run(
            ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(output)


def parse(output: str) -> tuple[Mirror, ...]:
    """Return the archives in the output of ``apt-get indextargets``, each once, the main one first."""
    found: dict[str, Mirror] = {}
    for line in output.splitlines():
        uri, origin, label = line.split("|")
        # Derivatives give their own origin; cdrom: and mirror+file: lead nowhere inside of a container.
        if origin == "Debian" and uri.startswith(("http://", "https://")):
            found.setdefault(uri, Mirror(uri, security=label == "Debian-Security"))
    return tuple(sorted(found.values(), key=lambda mirror: mirror.security))


def sources(suite: str) -> list[str]:
    """Return the lines for sources.list that give a suite from the machine's archives, or none without a main one."""
    known = mirrors()
    return [mirror.line(suite) for mirror in known] if known and not known[0].security else []
