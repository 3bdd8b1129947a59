"""Pins a lab host's packages to the present versions of its suite."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from conformance.errors import LabError
from conformance.lab.definition import Host
from conformance.util import apt, process

HEAD = "# What {name} is made of: SHA-256 and place in the archive's pool. Written by `conformance lab pin {name}`.\n"

SECONDS = 900


def renew(host: Host, progress: Callable[[str], None]) -> int:
    """Let apt choose the host's packages from the machine's own archive, and pin them.

    Returns:
        The number of packages.

    Raises:
        LabError: this machine's apt knows no archive, or the packages could not be installed.
    """
    sources = apt.sources(host.suite)
    if not sources:
        raise LabError("cannot pin packages: this machine's apt knows no Debian archive", "sudo apt-get update")
    progress(f"{host.name}: letting apt choose packages from {host.suite}")
    with tempfile.TemporaryDirectory() as folder:
        shown, log = Path(folder) / "shown", Path(folder) / "log"
        installed = r'chroot "$1" dpkg-query --show --showformat="\${Package}:\${Architecture}=\${Version}\n"'
        process.run(
            process.as_root(
                [
                    *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=null"),
                    f"--include={','.join(host.packages)}",
                    '--aptopt=Apt::Install-Recommends "false"',
                    f'--customize-hook={installed} | xargs chroot "$1" apt-cache show >{shown}',
                    *(host.suite, "/dev/null", *sources),
                ]
            ),
            log=log,
            seconds=SECONDS,
        )
        pins = parse(shown.read_text(encoding="utf-8"))
    rows = "".join(f"{sha256}  {pool}\n" for pool, sha256 in sorted(pins.items()))
    host.pins.write_text(HEAD.format(name=host.name) + rows, encoding="utf-8")
    return len(pins)


def parse(shown: str) -> dict[str, str]:
    """Return the checksums by pool path in what ``apt-cache show`` printed."""
    found = {}
    for record in shown.split("\n\n"):
        fields = dict(re.findall(r"^(Filename|SHA256): (\S+)$", record, re.MULTILINE))
        if fields:
            # The security archive keeps its own pool below the same names.
            found[fields["Filename"].replace("pool/updates/", "pool/")] = fields["SHA256"]
    return found
