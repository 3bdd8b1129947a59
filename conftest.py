"""Load the conformance plugin for the suites; a wheel has this file as conformance/suites/conftest.py."""

from pathlib import Path

import pytest

from conformance.plugin.entry import load
from conformance.plugin.fixtures import *  # noqa: F403  - pytest finds fixtures by the names in a conftest

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin; it concerns the tests of one folder."""
    load(config, HERE / "suites" if (HERE / "suites").is_dir() else HERE)
