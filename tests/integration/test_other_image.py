"""An image that is not ours, with a contract of its own: other daemons, port, folders, user and start command."""

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.engine import client, image
from conformance.model import record
from conformance.model.verdict import Verdict
from conformance.plugin.state import EXIT_NOTHING_DECIDED
from conformance.util import paths

FOLDER = Path(__file__).parent / "modular"
TAG = "conformance-test-modular:latest"

pytestmark = pytest.mark.timeout(1500)  # the first build compiles a little


@pytest.fixture(scope="module")
def tag() -> str:
    return image.ensure_image(client.connect(), lambda _text: None, tag=TAG, folder=FOLDER).tag


def judge(tag: str, results: Path, *options: str) -> tuple[int, str]:
    """Judge the image in one mode; return the session's exit status and what it wrote."""
    contract = f"--contract={FOLDER / 'theirs.toml'}"
    # Docker's AppArmor profile would only hide what the image does.
    confined = "apparmor" in client.connect().fingerprint().security
    mode = "unprivileged-unconfined" if confined else "unprivileged"
    words = ["--image", tag, contract, f"--results={results}", "--mode", mode, *options]
    command = [sys.executable, "-m", "pytest", "suites", *words]
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, done.stdout + done.stderr


def test_another_image_is_judged_by_its_own_contract(tag: str, tmp_path: Path) -> None:
    status, output = judge(tag, tmp_path, "-k", "api or defaults or wrote_is_in_the_volume")

    assert status == 0, output
    records = list(record.read(tmp_path))
    assert {one.verdict for one in records} == {Verdict.WORKS}
    assert {one.feature for one in records} == {"api", "defaults", "virtio-disk"}
    assert all(set(one.image.versions) == {"libvirt", "QEMU"} for one in records), "virtqemud told libvirt's"


def test_what_the_image_does_not_promise_is_not_asked(tag: str, tmp_path: Path) -> None:
    status, output = judge(tag, tmp_path, "-m", "nat or secure_boot")

    assert status == EXIT_NOTHING_DECIDED, output
    assert not list(tmp_path.iterdir())
