"""Where the project keeps what it makes."""

import os
from pathlib import Path

from conformance.errors import HarnessError

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout: the image, the suites, the contract and the recorded results are data next to the package."""

PACKAGE = PROJECT / "conformance"
CONTRACT = PROJECT / "contract.toml"
IMAGE = PROJECT / "image"
ISOS = PROJECT / "fixtures" / "isos"
SELFCHECK = PROJECT / "selfcheck"
SUITES = PROJECT / "suites"
README = PROJECT / "README.md"
RESULTS = PROJECT / "results"
BENCH = RESULTS / "bench"
ARTEFACTS = PROJECT / "artefacts"
REPORT = PROJECT / "report.html"
PERFORMANCE = PROJECT / "docs" / "performance.md"
PRIVILEGES = PROJECT / "docs" / "privileges.md"
TRUST = PROJECT / "docs" / "trust.md"


def cache() -> Path:
    """Return the cache folder: ``$CONFORMANCE_CACHE``, else ``libvirt-conformance`` in the user's cache.

    It holds downloads, built media and the private engine's data; all of it can be deleted at any time
    while nothing runs.

    Raises:
        HarnessError: it cannot be made.
    """
    override = os.environ.get("CONFORMANCE_CACHE")
    if override:
        folder = Path(override)
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "libvirt-conformance"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"the cache folder {folder} cannot be made: {error.strerror}",
            "set CONFORMANCE_CACHE to a folder of your own",
        ) from error
    return folder
