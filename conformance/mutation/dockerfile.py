"""Mutants of the Dockerfile: packages left out, and the image's environment, health check and signals changed."""

import re
from collections.abc import Iterator, Mapping

from conformance.mutation import values
from conformance.mutation.mutant import ImageFiles, Mutant

FILE = "Dockerfile"

_INSTALL = re.compile(r"apt-get install [^&]*", re.DOTALL)
_ENVIRONMENT = re.compile(r"^ENV (.*?[^\\])$", re.MULTILINE | re.DOTALL)

OTHER_DEFAULTS = {"TCP_PORT": "16510", "LISTEN_ADDRESS": "127.0.0.1"}
"""Other values for variables that have no opposite."""

METADATA = {
    "HEALTHCHECK NONE": "the image has no health check",
    'HEALTHCHECK CMD ["/bin/true"]': "the health check always succeeds",
    "HEALTHCHECK --interval=1h CMD [\"/usr/local/bin/healthcheck\"]": "the health check runs once an hour",
    "STOPSIGNAL SIGKILL": "the engine stops the container by SIGKILL",
    "STOPSIGNAL SIGUSR1": "the engine stops the container by a signal that the entrypoint does not heed",
    'ENTRYPOINT ["/usr/local/bin/entrypoint"]': "no init process reaps the children of ended processes",
    "USER libvirt": "the container runs as the user libvirt",
    "EXPOSE 16510": "the image exposes another port too",
    "VOLUME /var/lib/libvirt/qemu": "the image has a volume that is not documented",
    "WORKDIR /var/lib/libvirt": "the entrypoint runs in another folder",
    "ENV PATH=/usr/bin:/bin": "programs of the administrator are not in the path",
    "ENV TZ=America/New_York": "the image's time zone is not UTC",
}  # fmt: skip
"""Instructions over the image, and their effect."""


def packages(files: ImageFiles) -> tuple[str, ...]:
    """Return the packages that the Dockerfile installs."""
    found = _INSTALL.search(files[FILE])
    words = found[0].replace("\\", " ").split()[2:] if found else []
    return tuple(one for one in words if not one.startswith("-"))


def left_out(files: ImageFiles, takes_along: Mapping[str, tuple[str, ...]]) -> Iterator[Mutant]:
    """Leave out each package that no other one of the list depends on.

    Args:
        files: the image's files.
        takes_along: for each package the packages that cannot stay without it.
    """
    listed = packages(files)
    for package in listed:
        if set(takes_along.get(package, ())) & set(listed) - {package}:
            continue
        yield Mutant(
            "package",
            FILE,
            package,
            "left out",
            f"the image lacks the package {package}",
            instructions=f"RUN dpkg --purge --force-all {package}",
        )


def environment(files: ImageFiles) -> Iterator[Mutant]:
    """Give each environment variable another default, or none; change the image's metadata."""
    found = _ENVIRONMENT.search(files[FILE])
    pairs = [one.partition("=")[::2] for one in (found[1] if found else "").replace("\\\n", " ").split()]
    for name, value in pairs:
        for other in ("", OTHER_DEFAULTS.get(name) or values.changed(value)):
            if other is None:
                continue
            meaning = f"{name} is {other} by default" if other else f"{name} is empty by default"
            change = f"to {other}" if other else "emptied"
            yield Mutant("environment", FILE, name, change, meaning, instructions=f"ENV {name}={other}")
    for instruction, effect in METADATA.items():
        yield Mutant("environment", FILE, instruction.split()[0], instruction, effect, instructions=instruction)
