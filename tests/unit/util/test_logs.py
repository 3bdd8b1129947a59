"""The log of a run."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.util import logs, paths
from conformance.util.progress import Progress
from conformance.util.wait import wait_for

LOG = logging.getLogger("conformance.somewhere")


@pytest.fixture(autouse=True)
def artefacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let logs go into a folder of the test's own."""
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "artefacts")
    return tmp_path / "artefacts"


@pytest.fixture
def begun() -> Iterator[None]:
    """Collect this process's records."""
    end = logs.begin()
    yield
    end()


@pytest.mark.usefixtures("begun")
def test_a_worker_logs_into_the_folder_of_the_whole_run(artefacts: Path) -> None:
    logs.write_to("run-1", worker="run-2")
    LOG.info("here")
    (file,) = artefacts.rglob("*.log")
    assert file == artefacts / "run-1" / "worker-run-2.log"
    assert "here" in file.read_text()


@pytest.mark.usefixtures("begun")
def test_a_log_has_the_lines_from_before_the_run_had_a_name(artefacts: Path) -> None:
    LOG.debug("early %d", 1)
    logs.write_to("run-1")
    LOG.info("late")
    logs.write_to("run-2")
    LOG.warning("other")
    first, second = ((artefacts / name / logs.FILE).read_text().splitlines() for name in ("run-1", "run-2"))
    assert [line.partition(": ")[2] for line in first] == ["early 1", "late"]
    assert [line.partition(": ")[2] for line in second] == ["other"]
    assert " DEBUG conformance.somewhere " in first[0]


def test_nothing_is_written_or_propagated_unless_collection_began(
    artefacts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    LOG.warning("unseen")
    logs.write_to("run")
    assert logs.footer() == ""
    assert not artefacts.exists()
    assert capfd.readouterr() == ("", "")


def test_the_outermost_collection_owns_the_log(artefacts: Path, caplog: pytest.LogCaptureFixture) -> None:
    end = logs.begin()
    inner = logs.begin()
    logs.write_to("run")
    inner()
    LOG.info("still there")
    end()
    LOG.info("no longer")
    assert "still there" in (artefacts / "run" / logs.FILE).read_text()
    assert "no longer" not in (artefacts / "run" / logs.FILE).read_text()
    assert "still there" not in caplog.text  # pytest would show it below each failed test
    assert logs.ROOT.propagate


@pytest.mark.usefixtures("begun")
def test_an_error_names_the_log_even_before_a_run(artefacts: Path) -> None:
    assert logs.footer() == ""  # nothing was logged
    LOG.info("connecting")
    (file,) = [Path(logs.footer().removeprefix("\n  log: "))]
    assert file.is_relative_to(artefacts)
    assert "connecting" in file.read_text()


@pytest.mark.usefixtures("begun")
def test_a_log_that_cannot_be_opened_is_no_error(artefacts: Path) -> None:
    artefacts.write_text("a file in place of the folder")
    logs.write_to("run")
    LOG.info("dropped")
    assert logs.footer() == ""


def test_a_full_disk_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    log = logs.RunLog()
    log.write_to(Path("/dev/full"))
    for _ in range(3):
        log.handle(logging.makeLogRecord({"msg": "x"}))
    log.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("begun")
def test_waits_and_steps_are_logged(artefacts: Path) -> None:
    logs.write_to("run")
    answers = iter((None, 1))
    wait_for("the number", lambda: next(answers), seconds=5, interval=0)
    Progress(io.StringIO(), quiet=True)("a step")
    text = (artefacts / "run" / logs.FILE).read_text()
    assert "waiting for the number, for up to 5 s" in text
    assert "the number: after 0.0" in text
    assert text.rstrip().endswith("a step")


@pytest.mark.usefixtures("begun")
def test_verbose_progress_shows_records_and_each_step_once() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    put_back = logs.show(progress)
    progress("a step")
    LOG.debug("a\ndetail")
    put_back()
    LOG.debug("unseen")
    assert stream.getvalue().splitlines() == ["… a step", "  debug conformance.somewhere: a detail"]
    assert not logs.shown()


def test_a_killed_process_leaves_its_log(tmp_path: Path) -> None:
    script = (
        "import os, logging, pathlib; from conformance.util import logs, paths;"
        f"paths.ARTEFACTS = pathlib.Path({str(tmp_path)!r}); logs.begin(); logs.write_to('run');"
        "logging.getLogger('conformance.x').debug('last words'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == -9
    assert "last words" in (tmp_path / "run" / logs.FILE).read_text()
