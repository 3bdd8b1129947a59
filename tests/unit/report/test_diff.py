import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.cli import main, status
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.report import diff
from conformance.report.diff import Change, Kind

Make = Callable[..., Record]

WORKS, FAILS, KNOWN, FIXED = Verdict.WORKS, Verdict.FAILS, Verdict.KNOWN_FAILURE, Verdict.FIXED
UNSUPPORTED, NOT_RUN, ERROR = Verdict.UNSUPPORTED, Verdict.NOT_RUN, Verdict.ERROR


def only(contract: Contract, old: list[Record], new: list[Record]) -> Change | None:
    (compared,) = diff.compare(contract, old, new)
    assert len(compared.changes) <= 1
    return compared.changes[0] if compared.changes else None


@pytest.mark.parametrize(
    ("before", "after", "kind", "worse"),
    [
        (WORKS, FAILS, Kind.NEWLY_FAILING, True),
        (WORKS, ERROR, Kind.NEWLY_FAILING, True),
        (WORKS, KNOWN, Kind.NEWLY_FAILING, True),
        (KNOWN, FAILS, Kind.NEWLY_FAILING, True),
        (UNSUPPORTED, FAILS, Kind.NEWLY_FAILING, True),
        (FAILS, WORKS, Kind.NEWLY_FIXED, False),
        (KNOWN, FIXED, Kind.NEWLY_FIXED, False),
        (ERROR, WORKS, Kind.NEWLY_FIXED, False),
        (WORKS, UNSUPPORTED, Kind.CHANGED, True),
        (WORKS, NOT_RUN, Kind.CHANGED, True),
        (UNSUPPORTED, WORKS, Kind.CHANGED, False),
        (FIXED, WORKS, Kind.CHANGED, False),
        (FAILS, KNOWN, Kind.CHANGED, False),
        (FAILS, ERROR, Kind.CHANGED, False),
        (KNOWN, UNSUPPORTED, Kind.CHANGED, False),
    ],
)
def test_a_verdict_that_differs(
    contract: Contract, make_record: Make, before: Verdict, after: Verdict, kind: Kind, worse: bool
) -> None:
    change = only(contract, [make_record(verdict=before)], [make_record(verdict=after, reason="why")])
    assert change
    assert (change.kind, change.worse) == (kind, worse)
    assert (change.before, change.after, change.reason) == (before.words, after.words, "why")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_that_stays_is_no_change(contract: Contract, make_record: Make, verdict: Verdict) -> None:
    old = make_record(verdict=verdict, reason="at 0x1", evidence={"error": "at 0x1"})
    assert only(contract, [old], [make_record(verdict=verdict, reason="at 0x2")]) is None


def test_another_cause_is_a_change(contract: Contract, make_record: Make) -> None:
    old, new = (make_record(verdict=FAILS, cause=cause) for cause in ("apparmor-mounts", "kvm-not-exposed"))
    change = only(contract, [old], [new])
    assert change
    assert (change.kind, change.worse) == (Kind.CHANGED, False)


def test_emulation_in_place_of_kvm_is_a_change(contract: Contract, make_record: Make) -> None:
    change = only(contract, [make_record(accel="kvm")], [make_record(accel="tcg")])
    assert change
    assert (change.kind, change.before, change.after) == (Kind.CHANGED, "works (kvm)", "works (tcg)")


def test_an_answer_that_is_missing_is_worse_and_a_check_that_is_no_more_is_not(
    contract: Contract, make_record: Make
) -> None:
    def cell_record(check: str, *checks: str) -> Record:
        return make_record(check=check, checks=checks)

    old = [cell_record("test_a", "test_a", "test_b"), cell_record("test_b", "test_a", "test_b")]
    for new, worse in ((cell_record("test_a", "test_a", "test_b"), True), (cell_record("test_a", "test_a"), False)):
        change = only(contract, old, [new])
        assert change
        assert (change.kind, change.worse, change.check) == (Kind.REMOVED, worse, "test_b")


def test_a_cell_that_the_new_run_did_not_select_is_counted(contract: Contract, make_record: Make) -> None:
    old = [make_record(), make_record(mode="privileged"), make_record(mode="privileged", check="test_b")]
    (compared,) = diff.compare(contract, old, [make_record()])
    assert (compared.changes, compared.worse) == ((), False)
    assert compared.absent == (("iso", "privileged"),)
    assert "1 cell" in diff.render(contract, [compared])


def test_a_cell_that_the_new_run_selected_and_lost_is_worse(contract: Contract, make_record: Make) -> None:
    cells = [(feature, mode) for feature in ("api", "kvm") for mode in ("privileged", "unprivileged")]
    made = [make_record(feature=feature, mode=mode) for feature, mode in cells]
    change = only(contract, made, made[:-1])
    assert change
    assert (change.kind, change.worse, (change.feature, change.mode)) == (Kind.REMOVED, True, cells[-1])


def test_selections_of_two_runs_are_not_combined(contract: Contract, make_record: Make) -> None:
    cells = [(feature, mode) for feature in ("api", "kvm") for mode in ("privileged", "unprivileged")]
    old = [make_record(feature=feature, mode=mode) for feature, mode in cells]
    new = [make_record(run=str(number), feature=cells[number][0], mode=cells[number][1]) for number in (0, 3)]
    (compared,) = diff.compare(contract, old, new)
    assert not compared.worse
    assert set(compared.absent) == {cells[1], cells[2]}


def test_a_cell_that_is_missing_from_complete_records_is_worse(contract: Contract, make_record: Make) -> None:
    (compared,) = diff.compare(
        contract, [make_record(), make_record(mode="privileged")], [make_record()], complete=True
    )
    (change,) = compared.changes
    assert (change.kind, change.worse, change.mode, compared.absent) == (Kind.REMOVED, True, "privileged", ())


def test_a_new_check_is_worse_where_it_fails(contract: Contract, make_record: Make) -> None:
    for verdict, worse in ((WORKS, False), (FAILS, True)):
        change = only(contract, [make_record()], [make_record(), make_record(check="test_b", verdict=verdict)])
        assert change
        assert (change.kind, change.worse) == (Kind.ADDED, worse)


# ------------------------------------------------------------------------------------------------ flaky


def runs(make_record: Make, *verdicts: Verdict) -> list[Record]:
    return [make_record(run=f"{number}", asked="q", verdict=verdict) for number, verdict in enumerate(verdicts)]


def test_a_working_check_that_becomes_flaky_is_newly_flaky(contract: Contract, make_record: Make) -> None:
    change = only(contract, runs(make_record, WORKS, WORKS), runs(make_record, WORKS, FAILS, WORKS))
    assert change
    assert (change.kind, change.worse, change.after) == (Kind.NEWLY_FLAKY, True, "works 2 of 3")


def test_a_failing_check_that_becomes_flaky_is_not_worse(contract: Contract, make_record: Make) -> None:
    change = only(contract, runs(make_record, FAILS), runs(make_record, WORKS, FAILS))
    assert change
    assert (change.kind, change.worse) == (Kind.NEWLY_FLAKY, False)


def test_a_check_that_stays_flaky_is_unchanged(contract: Contract, make_record: Make) -> None:
    assert only(contract, runs(make_record, WORKS, FAILS), runs(make_record, FAILS, WORKS, WORKS)) is None


def test_a_flaky_check_that_always_fails_is_newly_failing(contract: Contract, make_record: Make) -> None:
    change = only(contract, runs(make_record, WORKS, FAILS), runs(make_record, FAILS, FAILS))
    assert change
    assert (change.kind, change.worse, change.before) == (Kind.NEWLY_FAILING, True, "works 1 of 2")


def test_an_error_counts_before_flakiness(contract: Contract, make_record: Make) -> None:
    change = only(contract, runs(make_record, WORKS), runs(make_record, WORKS, FAILS, ERROR))
    assert change
    assert (change.kind, change.after) == (Kind.NEWLY_FAILING, "error")


# -------------------------------------------------------------------------------------------- durations


def timed(make_record: Make, *seconds: float, **same: object) -> list[Record]:
    return [make_record(**{"run": f"{number}", "seconds": one} | same) for number, one in enumerate(seconds)]


@pytest.mark.parametrize(
    ("before", "after", "slower"),
    [
        ([10, 11, 12], [30], True),
        ([10, 11, 12], [30, 29], True),
        ([10, 11, 12], [30, 11], False),  # one run of two was disturbed
        ([10, 11, 12], [14.5], False),  # less than a quarter
        ([10, 11, 30], [45], False),  # the old ones differ as much
        ([0.1, 0.1, 0.1], [1.9], False),  # below the limit
        ([10, 10], [100], False),  # two say nothing of their noise
    ],
)
def test_only_durations_above_the_noise_are_slower(
    contract: Contract, make_record: Make, before: list[float], after: list[float], slower: bool
) -> None:
    change = only(contract, timed(make_record, *before), timed(make_record, *after))
    assert (change is not None) == slower
    if change:
        assert (change.kind, change.worse, change.before) == (Kind.SLOWER, True, "10.0 to 12.0 s in 3 runs")


@pytest.mark.parametrize(
    "other",
    [
        {"host": Host(name="docker-1", fingerprint={"cpu": "slow"})},
        {"accel": "tcg"},
        {"checks": ("test_boot",), "mode": "privileged"},
    ],
)
def test_different_runs_are_not_timed(contract: Contract, make_record: Make, other: dict[str, object]) -> None:
    (compared,) = diff.compare(
        contract,
        timed(make_record, 1, 1, 1, host=Host(name="docker-1", fingerprint={"cpu": "fast"}), accel="kvm"),
        timed(make_record, 90, **{"host": Host(name="docker-1", fingerprint={"cpu": "fast"}), "accel": "kvm"} | other),
    )
    assert compared.timed == 0
    assert Kind.SLOWER not in {change.kind for change in compared.changes}


def test_part_of_a_feature_can_be_compared(contract: Contract, make_record: Make) -> None:
    part = {"checks": ("test_boot", "test_other")}
    change = only(contract, timed(make_record, 10, 11, 12, **part), timed(make_record, 30, **part))
    assert change
    assert change.kind is Kind.SLOWER


def test_undecided_cells_are_not_timed(contract: Contract, make_record: Make) -> None:
    skipped = {"verdict": UNSUPPORTED}
    (compared,) = diff.compare(contract, timed(make_record, 1, 1, 1, **skipped), timed(make_record, 90, **skipped))
    assert (compared.timed, compared.changes) == (0, ())


def test_a_run_with_fewer_checks_is_not_timed(contract: Contract, make_record: Make) -> None:
    # The first that asks pays for the container's start.
    old = timed(make_record, 1, 1, 1) + timed(make_record, 9, 9, 9, feature="api")
    (compared,) = diff.compare(contract, old, timed(make_record, 9))
    assert compared.timed == 0


# ------------------------------------------------------------------------------------------------ hosts


def test_a_host_is_compared_with_itself_under_any_image_name(contract: Contract, make_record: Make) -> None:
    def on(name: str, tag: str) -> Record:
        return make_record(host=Host(name=name, fingerprint={}), image=Image(tag=tag, id=tag, base=""))

    records = [on("a", "v1"), on("b", "v1")], [on("b", "v2"), on("c", "v2")]
    compared = diff.compare(contract, *records)
    assert [(one.old, one.new) for one in compared] == [("b", "b"), ("a", None), (None, "c")]
    assert compared[0].facts["image"] == ("v1", "v2")
    assert [one.worse for one in compared] == [False, False, False]
    compared = diff.compare(contract, *records, complete=True)
    assert [one.worse for one in compared] == [False, True, False]


def test_one_host_alone_is_compared_with_one_alone(contract: Contract, make_record: Make) -> None:
    (compared,) = diff.compare(contract, [make_record()], [make_record(host=Host(name="other", fingerprint={}))])
    assert (compared.old, compared.new, compared.changes) == ("docker-1", "other", ())
    assert compared.facts["host"] == ("docker-1", "other")


# ------------------------------------------------------------------------------------- the command line


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Path]:
    def keep(name: str, *records: Record) -> Path:
        recorder = Recorder(tmp_path, name, "1")
        for one in records:
            recorder.append(one)
        return recorder.path

    return keep


def command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main.app, ["diff", *map(str, words)])
    return done.exit_code, done.output


def test_the_exit_status_is_one_if_anything_is_worse(kept: Callable[..., Path], make_record: Make) -> None:
    good, bad = kept("good", make_record()), kept("bad", make_record(verdict=FAILS, reason="a\nb"))
    assert command(good, good)[0] == 0
    assert command(bad, good)[0] == 0
    status, output = command(good, bad)
    assert status == 1
    assert "newly failing (worse)\n    unprivileged | ISO boot | works -> fails: a b\n      test_boot\n" in output


def test_programs_read_json(kept: Callable[..., Path], make_record: Make) -> None:
    status, output = command(kept("good", make_record()), kept("bad", make_record(verdict=FAILS)), "--json")
    found = json.loads(output)
    assert (status, found["worse"]) == (1, True)
    assert found["hosts"][0]["changes"][0] == {
        "kind": "newly failing",
        "worse": True,
        "feature": "iso",
        "mode": "unprivileged",
        "check": "test_boot",
        "before": "works",
        "after": "fails",
        "reason": "",
    }


def test_no_records_are_no_comparison(kept: Callable[..., Path], make_record: Make, tmp_path: Path) -> None:
    good, empty = kept("good", make_record()), tmp_path / "empty"
    empty.mkdir()
    assert command(good, empty)[0] == status.USAGE
    assert command(tmp_path / "nowhere", good)[0] == status.USAGE
    assert command(good)[0] == status.USAGE
