"""docs/development.md: the house that it shows is the one that is there."""

import re

from conformance.util import paths

PAGE = paths.PROJECT / "docs" / "development.md"


def test_each_package_has_a_row() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE.read_text(), re.M)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)`", row)}
    there = {folder.parent.name for folder in paths.PACKAGE.glob("*/__init__.py")}
    assert there <= named


def test_the_stack_is_the_one_that_is_checked() -> None:
    project = (paths.PROJECT / "pyproject.toml").read_text()
    layers = re.search(r"layers = \[(.*?)\]", project, re.S)
    assert layers is not None
    checked = [frozenset(re.findall(r"\w+", line)) for line in re.findall(r'"(.*?)"', layers[1])]
    table = PAGE.read_text().partition("| Package | Owns |")[2]
    shown = [frozenset(re.findall(r"`([a-z]+)(?:\.py)?`", row)) for row in re.findall(r"^\| (`[^|]*) \|", table, re.M)]
    assert shown == checked
