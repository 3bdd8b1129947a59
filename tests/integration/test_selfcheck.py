"""Defects that are really seeded on an engine: who notices, what is recorded, and that nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.engine import client, labels
from conformance.selfcheck import outcome
from conformance.selfcheck.outcome import Result

pytestmark = pytest.mark.timeout(300)

SEEDED = ("logs-of-root", "published-everywhere")
"""One in the image, and one in what the engine is told; neither needs a guest."""


def selfcheck(results: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "conformance.cli", "selfcheck", "--results", str(results)]
    return subprocess.run(
        [*words, *(f"--defect={one}" for one in SEEDED)],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def layers() -> set[str]:
    return {str(one["Id"]) for one in client.connect().client.api.images(filters={"label": labels.RUN})}


def test_seeded_defects_are_caught_recorded_and_leave_nothing_behind(tmp_path: Path) -> None:
    before = layers()

    done = selfcheck(tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 caught")
    found = outcome.read(tmp_path)
    assert [(one.change, one.result) for one in found] == [(one, Result.CAUGHT) for one in SEEDED]
    assert layers() <= before

    again = selfcheck(tmp_path)
    assert again.returncode == 0, again.stderr
    assert outcome.read(tmp_path) == found, "what is recorded is not asked again"
