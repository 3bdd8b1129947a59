"""Folders: the project's data, and the places of results."""

import os
from pathlib import Path

from conformance.errors import HarnessError

PACKAGE = Path(__file__).resolve().parents[1]

CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "contract.toml").is_file() else None
"""The folder of the repository; none where the package was installed from a wheel."""

DATA = CHECKOUT or PACKAGE / "data"
"""Contract, image, media, labs and selfcheck: in the repository next to the package, in a wheel inside of it."""

CONTRACT = DATA / "contract.toml"
IMAGE = DATA / "image"
ISOS = DATA / "fixtures" / "isos"
LAB = DATA / "lab"
SELFCHECK = DATA / "selfcheck"
SUITES = CHECKOUT / "suites" if CHECKOUT else PACKAGE / "suites"

PROJECT = CHECKOUT or Path.cwd()
"""Everything is written below it: the repository, else the working directory."""

TESTS = (
    ("suites",)
    if CHECKOUT
    else (
        *("--pyargs", "conformance.suites", "--import-mode=importlib", "--strict-markers"),
        *("-W", "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"),
    )
)
"""pytest's words for all suites, in a session that starts in :data:`PROJECT`."""

COMMAND = "./run" if CHECKOUT else "conformance"
"""The command that messages recommend."""

README = PROJECT / "README.md"
RESULTS = PROJECT / "results"
BENCH = RESULTS / "bench"
ARTEFACTS = PROJECT / "artefacts"
REPORT = PROJECT / "report.html"
DOCS = PROJECT / "docs"
PERFORMANCE = DOCS / "performance.md"


def run_folder(run: str) -> Path:
    """Return the folder of a run: its log, its evidence, and its records if the user names no other folder for them."""
    return ARTEFACTS / run


def require_checkout(command: str) -> None:
    """Raise where a command that works on the repository's own files has none.

    Raises:
        HarnessError: the package was installed without the repository.
    """
    if CHECKOUT is None:
        raise HarnessError(
            f"conformance {command} works on the project's repository, and this installation has none",
            "clone the repository and run ./run " + command + " in it",
        )


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
