"""The main job, in small: real guests, real records, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker
import pytest

from conformance.engine import client as engine
from conformance.engine import labels
from conformance.media import probe as probe_media
from conformance.media.third_party import third_party_media
from conformance.model import record
from conformance.model.verdict import Verdict
from conformance.run import cleanup
from conformance.util import paths
from conformance.util.wait import wait_for

pytestmark = pytest.mark.timeout(600)

MATRIX = [sys.executable, "-m", "pytest", "suites", "--mode", "unprivileged"]


@pytest.fixture(scope="module")
def client() -> docker.DockerClient:
    return engine.connect().client


def left_by(client: docker.DockerClient, process: int) -> list[str]:
    """Return what a run of this machine left on the engine; its label ends with its process."""
    return [str(one) for one in labelled(client) if str(one["Labels"][labels.RUN]).endswith(f"-{process}")]


def left_since(client: docker.DockerClient, began: str) -> list[str]:
    """Return what runs of this machine left on the engine that began no earlier and have ended."""
    return [run for run in cleanup.dead_runs(labelled(client)) if run >= began]


def labelled(client: docker.DockerClient) -> list[dict[str, Any]]:
    mark = {"label": labels.RUN}
    return [
        *client.api.containers(all=True, filters=mark),
        *client.api.networks(filters=mark),
        *(client.api.volumes(filters=mark)["Volumes"] or []),
    ]


class Run:
    """A run of the matrix in a process of its own."""

    def __init__(self, *options: str, matrix: Sequence[str] = MATRIX, **environment: str) -> None:
        self.began = time.strftime(labels.TIME, time.gmtime())
        self.process = subprocess.Popen(
            [*matrix, *options],
            cwd=paths.PROJECT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # In the background of a shell, a process starts with ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and what it wrote."""
        try:
            output, _ = self.process.communicate(timeout=400)
        finally:
            self.process.kill()
        return self.process.returncode, output


def test_guests_answer_and_their_answers_are_recorded(client: docker.DockerClient, tmp_path: Path) -> None:
    some = "published_port or wrote_is_in_the_volume or agree_on_the_lease"
    run = Run("-k", some, "--results", str(tmp_path), "--junit-xml", str(tmp_path / "junit.xml"))
    status, output = run.end()

    assert status == 0, output
    assert left_by(client, run.process.pid) == []
    records = list(record.read(tmp_path))
    assert {one.verdict for one in records} == {Verdict.WORKS}
    assert {one.feature for one in records} == {"api", "virtio-disk", "virtio-net"}
    by_check = {one.check: one for one in records}
    guests = by_check["test_what_the_guest_wrote_is_in_the_volume"].evidence["guests"]
    assert [event["event"] for event in guests[0]["report"]][-1] == "end"
    # One boot answered for the disk and for the network.
    domains = {guest["domain"] for one in records for guest in one.evidence["guests"]}
    assert len(domains) == 1
    assert 'verdict" value="works"' in (tmp_path / "junit.xml").read_text()


def test_asked_again_is_a_run_of_its_own_and_asks_the_same(tmp_path: Path) -> None:
    words = ["--repeat", "2", "-k", "published_port", "--mode", "unprivileged", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "conformance.cli", "matrix", *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False
    )

    assert done.returncode == 0, done.stdout
    first, second = record.read(tmp_path)
    assert first.run != second.run
    assert first.asks_the_same_as(second)
    assert "all 2 runs together" in done.stdout


def test_an_image_that_does_not_exist_is_said_before_any_work(tmp_path: Path) -> None:
    status, output = Run("-m", "api", "--image", "no/such:image", "--results", str(tmp_path)).end()

    assert status == 4
    assert "the engine has no image 'no/such:image'" in output
    assert not list(tmp_path.iterdir())


def test_an_image_that_exits_at_once_fails_and_the_reason_is_recorded(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    ours = client.images.get("libvirt-conformance:latest")
    container = client.containers.create(ours, labels={labels.RUN: labels.new_run()})
    try:
        changes = ['ENTRYPOINT ["sh", "-c", "echo no libvirt here; exit 3"]']
        container.commit("conformance-test-broken", "1", changes=changes)
    finally:
        container.remove(v=True)
    try:
        run = Run("-m", "api", "--image", "conformance-test-broken:1", "--results", str(tmp_path))
        status, output = run.end()
    finally:
        client.images.remove("conformance-test-broken:1")

    assert status == 1
    assert left_by(client, run.process.pid) == []
    (first, *_) = record.read(tmp_path)
    assert first.verdict is Verdict.FAILS
    assert "the container ended before libvirt answered" in first.reason
    assert "no libvirt here" in output


def interrupted(results: Path, matrix: Sequence[str] = MATRIX) -> Run:
    """Return a run that had ctrl-C after its first record, and kept that."""
    run = Run("-m", "api or iso", f"--results={results}", matrix=matrix)
    try:
        wait_for("the first record", lambda: any(results.glob("*.jsonl")), seconds=120)
    finally:
        run.process.send_signal(signal.SIGINT)
    status, output = run.end()
    assert status == 2, output
    assert list(record.read(results))
    return run


def test_ctrl_c_in_the_middle_leaves_nothing_and_keeps_what_was_recorded(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    run = interrupted(tmp_path)
    assert left_by(client, run.process.pid) == []


# --------------------------------------------------------------------------------- side by side

SIDE_BY_SIDE = [
    sys.executable,
    "-m",
    "conformance.cli",
    "matrix",
    "-n",
    "2",
    "--mode",
    "unprivileged",
    "--mode",
    "least",
]


def test_modes_side_by_side_say_what_they_say_one_after_the_other(client: docker.DockerClient, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    run = Run("-m", "api", f"--results={tmp_path}", f"--junit-xml={junit}", "--require", "api", matrix=SIDE_BY_SIDE)
    status, output = run.end()

    assert status == 0, output
    (file,) = tmp_path.glob("*.jsonl")
    records = list(record.read(file))
    assert {one.run for one in records} == {records[0].run}
    asked = {(mode, check) for mode in ("unprivileged", "least") for check in records[0].checks}
    assert {(one.mode, one.check) for one in records} == asked
    assert {one.verdict for one in records} == {Verdict.WORKS}
    assert junit.read_text().count("<testcase ") == len(asked)
    assert re.search(r"least +unprivileged *\n *libvirt API over TCP +works +works", output), output
    assert left_since(client, run.began) == []


def test_ctrl_c_ends_all_that_is_side_by_side(client: docker.DockerClient, tmp_path: Path) -> None:
    run = interrupted(tmp_path, matrix=SIDE_BY_SIDE)
    assert left_since(client, run.began) == []


def test_no_engine_is_said_with_what_to_do(tmp_path: Path) -> None:
    status, output = Run("-m", "api", "--results", str(tmp_path), DOCKER_HOST=f"unix://{tmp_path}/none.sock").end()

    assert status == 6
    assert "no container engine" in output
    assert "what to do" in output


# --------------------------------------------------------------------------------- a user's own medium


def test_a_medium_is_judged_by_its_screen(tmp_path: Path) -> None:
    own = ["--iso", str(third_party_media()["memtest.iso"]), "--iso-expect", r"Memtest86\+ v7"]
    status, output = Run("-m", "user_iso", "--results", str(tmp_path), *own).end()

    assert status == 0, output
    (one,) = record.read(tmp_path)
    assert one.verdict is Verdict.WORKS
    assert "CLK/Temp" in one.evidence["screen"], "the record keeps all of the screen"


def test_a_medium_that_shows_something_else_fails_and_what_it_shows_is_told(tmp_path: Path) -> None:
    own = ["--iso", str(probe_media.ensure().iso), "--iso-expect", "something else"]
    status, output = Run("-m", "user_iso", "--results", str(tmp_path), *own).end()

    assert status == 1, output
    assert "ended without showing 'something else'" in output
    assert '"event":"boot"' in output, "the console"
    screenshot = re.search(r"the screen shows:\n(?:.*\n)*?.*SeaBIOS(?:.*\n)+?.*screenshot: (artefacts/\S+)", output)
    assert screenshot, output
    (paths.PROJECT / screenshot[1]).unlink()
    assert [one.verdict for one in record.read(tmp_path)] == [Verdict.FAILS]
