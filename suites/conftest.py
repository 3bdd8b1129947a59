"""Load the rest of the conformance plugin for these suites, and limit its fixtures to them."""

from pathlib import Path

import pytest

from conformance.plugin.entry import load
from conformance.plugin.fixtures import *  # noqa: F403  - pytest finds fixtures by the names in a conftest


def pytest_configure(config: pytest.Config) -> None:
    load(config, Path(__file__).parent)
