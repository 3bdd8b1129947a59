"""The search for the fewest privileges, on an engine: what it records, ctrl-C in the middle, and going on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.engine import client, labels
from conformance.privileges import configuration
from conformance.util.wait import wait_for

pytestmark = pytest.mark.timeout(600)

SEARCH = [sys.executable, "-m", "conformance.cli", "privileges", "--mode", "unprivileged", "--feature", "defaults"]


def left_by(process: int) -> list[str]:
    """Return what a run of this machine left on the engine; its label ends with its process."""
    api = client.connect().client.api
    found = [
        *api.containers(all=True, filters={"label": labels.RUN}),
        *api.networks(filters={"label": labels.RUN}),
        *(api.volumes(filters={"label": labels.RUN})["Volumes"] or []),
    ]
    return [str(one) for one in found if str(one["Labels"][labels.RUN]).endswith(f"-{process}")]


def until(done: Callable[[], bool], results: Path) -> tuple[int, str, int]:
    """Search until something is so, press ctrl-C, and return exit status, output and process."""
    process = subprocess.Popen(
        [*SEARCH, "--results", str(results)],
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # In the background of a shell, a process starts with ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_for("the search to get so far", lambda: done() or process.poll() is not None, seconds=300)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, output, process.pid


def test_a_search_is_recorded_interrupted_and_goes_on(tmp_path: Path) -> None:
    def recorded() -> list[configuration.Configuration]:
        return configuration.read(tmp_path)

    status, output, process = until(lambda: len(recorded()) >= 5, tmp_path)
    before = recorded()
    assert status == 2, output
    assert left_by(process) == []

    status, output, process = until(lambda: len(recorded()) > len(before), tmp_path)
    after = recorded()
    assert status == 2, output
    assert left_by(process) == []
    assert after[: len(before)] == before
    assert after[len(before)].without not in [one.without for one in before], "it went on where it was"

    whole, *rest = after
    assert whole.without == ()
    assert whole.answers["defaults"].verdict == "works"
    assert whole.warnings == ()
    # By what the contract calls most dangerous: switches, and then this capability.
    without = next(one for one in rest if one.without == ("SYS_ADMIN",))
    assert [*without.answers] == ["defaults"]
    assert any(" SYS_ADMIN " in warning for warning in without.warnings)
