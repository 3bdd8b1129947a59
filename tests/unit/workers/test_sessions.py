from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.model.verdict import Verdict
from conformance.plugin.state import SESSION, SessionState
from conformance.util import paths
from conformance.workers import sessions

Make = Callable[..., Record]


@pytest.fixture
def end(monkeypatch: pytest.MonkeyPatch, make_record: Make) -> Callable[..., list[Sequence[str]]]:
    """Lets pytest's sessions end with these statuses; 4 is one that came to no run."""

    def end(*statuses: int) -> list[Sequence[str]]:
        asked: list[Sequence[str]] = []

        def main(words: Sequence[str], plugins: Sequence[Any]) -> int:
            status = statuses[len(asked)]
            asked.append(words)
            verdict = Verdict.FAILS if status == pytest.ExitCode.TESTS_FAILED else Verdict.WORKS
            config: Any = type("Config", (), {"stash": pytest.Stash()})()
            if status != pytest.ExitCode.USAGE_ERROR:
                records = [make_record(run=str(len(asked)), asked="q", verdict=verdict)]
                recorder = type("Recorder", (), {"records": records})()
                run: Any = type("Run", (), {"recorder": recorder})()
                config.stash[SESSION] = SessionState(config, run=run)
            plugins[0].pytest_unconfigure(config)
            return status

        monkeypatch.setattr(pytest, "main", main)
        return asked

    return end


def ask(times: int, folder: Path | None = None) -> sessions.Repeated:
    return sessions.repeat(lambda results: sessions.run_suites(["-m", "kvm"], results), times, folder)


@pytest.mark.parametrize(
    ("statuses", "status", "runs"),
    [
        ([0, 0, 0], 0, 3),
        ([0, 1, 0], 1, 3),
        ([5, 0, 5], 0, 3),
        ([5, 5, 5], 5, 3),
        ([0, 2, 0], 2, 2),
        ([6, 0, 0], 6, 1),
        ([1, 6, 0], 6, 2),
        ([4, 0, 0], 4, 0),
    ],
)
def test_each_session_is_a_run_and_the_worst_status_counts(
    end: Callable[..., list[Sequence[str]]], statuses: list[int], status: int, runs: int
) -> None:
    asked = end(*statuses)
    found = ask(3)
    assert found.status == status
    assert len(found.runs) == runs
    assert {tuple(words[:3]) for words in asked} == {("suites", "-m", "kvm")}
    assert (found.folder is None) == (runs == 0)


def test_the_records_of_all_runs_are_in_the_first_ones_folder(end: Callable[..., list[Sequence[str]]]) -> None:
    asked = end(0, 0)
    first = paths.run_folder("1")
    assert ask(2).folder == first
    assert [list(words[3:]) for words in asked] == [[], [f"--libvirt-results={first}"]]


def test_the_records_of_all_runs_are_in_the_users_folder(
    end: Callable[..., list[Sequence[str]]], tmp_path: Path
) -> None:
    asked = end(0, 0)
    assert ask(2, tmp_path).folder == tmp_path
    assert [list(words[3:]) for words in asked] == [[f"--libvirt-results={tmp_path}"]] * 2


def test_all_runs_together_say_what_is_flaky(end: Callable[..., list[Sequence[str]]], contract: Contract) -> None:
    end(0, 1, 0)
    runs = ask(3).runs
    records = [one for run in runs for one in run]
    drawn = sessions.summary_of_all(contract, "all 3 runs", records, Path("results"), color=False)
    assert drawn.startswith("all 3 runs\ndocker-1: libvirt:1\n")
    assert "flaky: works 2 of 3" in drawn
