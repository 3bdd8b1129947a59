"""The first minute: a smoke run as a user starts it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.engine import client, image
from conformance.media import probe
from conformance.model import record
from conformance.model.contract import Contract
from conformance.model.verdict import Verdict
from conformance.util import paths

SECONDS = 500
"""Deadline on a busy machine; on two idle cores under emulation it takes half a minute."""

pytestmark = pytest.mark.timeout(2 * SECONDS)


def project() -> dict[Path, bytes]:
    """Return the files that only maintainers' commands change."""
    files = [paths.README, *paths.DOCS.glob("*.md"), *paths.RESULTS.rglob("*")]
    return {file: file.read_bytes() for file in files if file.is_file()}


def test_a_smoke_run_answers_within_its_time_and_leaves_the_project_as_it_was(contract: Contract) -> None:
    engine = client.connect()
    image.ensure_image(engine, print)
    probe.ensure(print)
    before = project()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "conformance.cli", "smoke"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    print(f"{time.monotonic() - began:.0f} s")  # noqa: T201

    assert done.returncode == 0, done.stdout + done.stderr
    assert project() == before
    recommended = contract.recommendation(", ".join(engine.fingerprint().security))
    assert recommended
    assert f"{paths.COMMAND} matrix --mode {recommended.mode}" in done.stdout
    assert "docker run --detach" in done.stdout
    report = Path(done.stdout.splitlines()[-1].removeprefix("Evidence: "))
    assert report.is_file()
    records = list(record.read(report.parent))
    assert {one.mode for one in records} == {recommended.mode}
    assert {one.feature for one in records} == {*contract.profile("smoke").features}
    assert {one.verdict for one in records if one.feature != "kvm"} == {Verdict.WORKS}
    domains = {guest["domain"] for one in records for guest in one.evidence["guests"] if one.feature != "kvm"}
    assert len(domains) <= 2, "one boot for all, and one without a system for QEMU's log"
