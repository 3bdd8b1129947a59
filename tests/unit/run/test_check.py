"""The digest of what can change an answer: neither a comment's nor the report's."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.run import check
from conformance.util import paths

Digest = Callable[[], str]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a copy of what is digested, in which files can be edited."""
    for name in ("conformance", "fixtures", "suites"):
        shutil.copytree(paths.PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.CONTRACT, tmp_path)
    for name, place in (("PACKAGE", "conformance"), ("ISOS", "fixtures/isos"), ("CONTRACT", "contract.toml")):
        monkeypatch.setattr(paths, name, tmp_path / place)
    return tmp_path


@pytest.fixture
def digest(project: Path) -> Digest:
    """Return what computes the digest of one suite anew."""

    def compute() -> str:
        check.digest.cache_clear()
        check._harness.cache_clear()
        return check.digest(project / "contract.toml", project / "suites" / "test_api.py")

    return compute


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("conformance/guests/guest.py", "import ", "# a comment\nimport "),
        ("conformance/util/wait.py", '"""Waits', '"""Now waits'),
        ("conformance/util/wait.py", '"""Seconds between', '"""Some seconds between'),
        ("conformance/container/container.py", "\n\n\nclass ", "\n\n\n\nclass "),
        ("conformance/report/page/cells.py", "HISTORY = 20", "HISTORY = 30"),
        ("conformance/lab/machine.py", "import os\n", "import os as os\n"),
        ("suites/test_api.py", "import pytest", "# a comment\nimport pytest"),
        ("contract.toml", "[image]", "# a comment\n[image]"),
    ],
)
def test_what_cannot_change_an_answer_is_not_in_the_digest(
    project: Path, digest: Digest, file: str, old: str, new: str
) -> None:
    before = digest()
    edit(project / file, old, new)
    assert digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("conformance/guests/probe_client.py", "BOOT_SECONDS = ", "BOOT_SECONDS = 1 + "),
        ("conformance/util/wait.py", "LONGEST_PAUSE = 1.0", "LONGEST_PAUSE = 2.0"),
        ("conformance/media/recipe.py", "import ", "import os\nimport "),
        ("suites/test_api.py", "== 0", "!= 0"),
        ("fixtures/isos/probe/init", "#!", "#! "),
        ("contract.toml", "port = 16509", "port = 16510"),
    ],
)
def test_what_can_change_an_answer_is_in_the_digest(
    project: Path, digest: Digest, file: str, old: str, new: str
) -> None:
    before = digest()
    edit(project / file, old, new)
    assert digest() != before


def test_a_new_module_counts_and_those_that_only_report_exist(project: Path, digest: Digest) -> None:
    before = digest()
    (project / "conformance" / "new.py").write_text("SECONDS = 3\n")
    assert digest() != before
    assert {check._part(path) for path in paths.PACKAGE.rglob("*.py")} >= check.REPORTING


def test_no_suite_imports_what_only_reports() -> None:
    """By name: what decides may use a report's words, and no more."""
    for suite in paths.SUITES.glob("test_*.py"):
        text = suite.read_text()
        for name in check.REPORTING:
            assert f"conformance.{name}" not in text
            assert f"from conformance import {name}\n" not in text
