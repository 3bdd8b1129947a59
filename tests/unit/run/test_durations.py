import json
from pathlib import Path

import pytest

from conformance.run import durations
from conformance.run.durations import Estimate, Key
from conformance.util import paths


def key(check: str, mode: str = "least") -> Key:
    return Key(mode, "nat", check)


def test_records_give_the_newest_seconds_of_checks_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "missing")
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "runs")

    def write(run: str, seconds: float, verdict: str, host: str = "docker-1") -> None:
        line = {"mode": "least", "feature": "nat", "check": "a", "seconds": seconds, "verdict": verdict}
        (tmp_path / f"{host}-{run}.jsonl").write_text(json.dumps(line) + "\n")

    write("1", 5.0, "fails")
    write("2", 7.0, "works")
    write("3", 0.1, "unsupported")
    write("9", 99.0, "works", host="lab-1")
    (tmp_path / "docker-1-4.jsonl").write_text("half a li")
    assert durations.recorded("docker-1", tmp_path) == {key("a"): 7.0}


def test_recorded_seconds_of_waiting_checks_are_the_time_left() -> None:
    estimate = Estimate([key("a"), key("b")], {key("a"): 10.0, key("b"): 4.0})
    assert estimate.left == 14.0
    estimate.ended(key("a"), 11.0)
    assert estimate.left == 4.0
    estimate.ended(key("b"), 4.0)
    assert estimate.left is None


def test_a_mode_without_records_takes_as_long_as_the_others() -> None:
    known = {key("a"): 10.0, key("a", "privileged"): 20.0}
    assert Estimate([key("a", "unprivileged")], known).left == 15.0


def test_without_records_the_runs_own_pace_counts() -> None:
    estimate = Estimate([key("a"), key("b"), key("c")], {})
    assert estimate.left is None
    estimate.ended(key("a"), 6.0)
    assert estimate.left == 12.0


@pytest.mark.parametrize(("took", "left"), [(60.0, 20.0), (30.0, 10.0), (3000.0, 50.0)])
def test_a_slower_host_takes_longer_within_limits(took: float, left: float) -> None:
    estimate = Estimate([key("a"), key("b")], {key("a"): 30.0, key("b"): 10.0})
    estimate.ended(key("a"), took)
    assert estimate.left == left
