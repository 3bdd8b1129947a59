"""The options and ini keys, and the way to the rest of the plugin; every pytest session of the environment loads this.

It imports nothing but pytest and small modules; see :mod:`conformance.plugin` for the reasons.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from conformance.plugin.settings import SETTINGS
from conformance.util import paths

PACKAGE = "conformance.suites"
"""The suites, as ``--pyargs`` names them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini keys."""
    for one in SETTINGS.values():
        if one.ini:
            help_ = f"default of {one.option}"
            if one.repeatable:
                parser.addini(one.key, help_, type="args")
            else:
                parser.addini(one.key, help_, type="string")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> Generator[None, object, object]:
    """Add the options after all other plugins and the first conftests, whose names take precedence.

    A ``conftest.py`` deeper in the tree adds its options later, and pytest refuses a name that exists. A short name is
    added only if it is on the command line, where pytest would not know it from such a file anyway.
    """
    try:
        return (yield)
    finally:
        group = parser.getgroup("conformance", "libvirt in a container")
        words = {word.partition("=")[0] for word in args}
        all_ = any(word in ("-h", "--help") or word.startswith("@") for word in words)  # @ is a file of words
        for one in SETTINGS.values():
            one.add(group, short=all_ or one.options[-1] in words)


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest of the plugin where the arguments name the suites."""
    _require_settings(config)
    if any(_names_suites(config, argument.partition("::")[0]) for argument in config.args):
        load(config)


def _names_suites(config: pytest.Config, place: str) -> bool:
    """Return whether a place of tests is the suites' folder or package, or in it."""
    if config.option.pyargs and (place == PACKAGE or place.startswith(f"{PACKAGE}.")):
        return True
    return (config.invocation_params.dir / place).resolve().is_relative_to(paths.SUITES.resolve())


def load(config: pytest.Config, folder: Path | None = None) -> None:
    """Load the rest of the plugin.

    A ``conftest.py`` of suites calls it in ``pytest_configure``, and imports :mod:`conformance.plugin.fixtures`' names.

    Args:
        config: of the session.
        folder: holds suites; elsewhere tests are another project's, even with a feature's marker.

    Raises:
        UsageError: an option's value is not accepted, the plugin is switched off, or pytest-xdist divides the tests.
    """
    if not hasattr(config.option, SETTINGS["contract"].key):
        raise pytest.UsageError(
            "the suites need the plugin 'conformance', which is switched off\n"
            "  what to do: run without -p no:conformance, and where PYTEST_DISABLE_PLUGIN_AUTOLOAD is set,"
            " with -p conformance.plugin"
        )
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "pytest-xdist would divide a mode's checks between runs that do not know of each other\n"
            "  what to do: leave out -n and --dist; conformance matrix -n N tests N modes at once"
        )
    config.pluginmanager.import_plugin("conformance.plugin.session")
    if folder:
        from conformance.plugin.state import SESSION

        config.stash[SESSION].folders.add(folder)


def _require_settings(config: pytest.Config) -> None:
    """Raise where pytest looked for its ini file beside an option's file, and found none or another project's.

    pytest looks for it before it knows a plugin's options, and takes the FILE of ``--iso FILE`` for a file of tests.
    """
    here = config.invocation_params.dir
    found = config.inipath is not None and here.is_relative_to(config.inipath.parent)
    has_path = any(isinstance(config.getoption(one.key), Path) for one in SETTINGS.values())
    if not has_path or found or config.getoption("inifilename"):
        return
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and "[tool.pytest" in file.read_text(encoding="utf-8", errors="replace"):
            raise pytest.UsageError(
                f"pytest did not read its settings in {file}: it took an option's file for a test file\n"
                "  what to do: write = before it, as in --iso=FILE or --results=FOLDER, or run pytest suites"
            )
