from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.matrix import Cell
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict

Make = Callable[..., Record]
OLD, NEW = "20260101T000000Z-abcdef-1", "20260102T000000Z-abcdef-2"


def cell(contract: Contract, *records: Record) -> Cell:
    (host,) = matrix.build(contract, records)
    return host.cell("iso", "unprivileged")


def test_nothing_recorded_is_no_host(contract: Contract) -> None:
    assert matrix.build(contract, []) == []


def test_a_cell_without_records_is_not_run(contract: Contract, make_record: Make) -> None:
    (host,) = matrix.build(contract, [make_record()])
    assert host.cell("kvm", "privileged").verdict is Verdict.NOT_RUN


def test_a_cell_is_worth_its_gravest_check(contract: Contract, make_record: Make) -> None:
    both = ("test_a", "test_b")
    for one, other, expected in (
        (Verdict.WORKS, Verdict.WORKS, Verdict.WORKS),
        (Verdict.WORKS, Verdict.FAILS, Verdict.FAILS),
        (Verdict.FAILS, Verdict.ERROR, Verdict.ERROR),
        (Verdict.KNOWN_FAILURE, Verdict.WORKS, Verdict.KNOWN_FAILURE),
        (Verdict.FIXED, Verdict.KNOWN_FAILURE, Verdict.FIXED),
        (Verdict.UNSUPPORTED, Verdict.WORKS, Verdict.UNSUPPORTED),
        (Verdict.UNSUPPORTED, Verdict.NOT_RUN, Verdict.NOT_RUN),
    ):
        found = cell(
            contract,
            make_record(check="test_a", checks=both, verdict=one),
            make_record(check="test_b", checks=both, verdict=other),
        )
        assert found.verdict is expected, (one, other)


def test_part_of_an_answer_never_works(contract: Contract, make_record: Make) -> None:
    found = cell(contract, make_record(check="test_a", checks=("test_a", "test_b")))
    assert found.verdict is Verdict.NOT_RUN
    assert "test_b" in found.reasons[0]


def test_part_of_an_answer_can_fail(contract: Contract, make_record: Make) -> None:
    found = cell(contract, make_record(check="test_a", checks=("test_a", "test_b"), verdict=Verdict.FAILS))
    assert found.verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("verdict", "decides"),
    [(Verdict.WORKS, OLD), (Verdict.UNSUPPORTED, OLD), (Verdict.FAILS, NEW), (Verdict.ERROR, NEW)],
)
def test_part_of_an_answer_replaces_a_whole_one_only_if_it_is_bad(
    contract: Contract, make_record: Make, verdict: Verdict, decides: str
) -> None:
    whole = make_record(run=OLD)
    part = make_record(run=NEW, checks=("test_boot", "test_other"), verdict=verdict)
    found = cell(contract, whole, part)
    assert (found.run, found.verdict) == (decides, verdict if decides == NEW else Verdict.WORKS)


def test_parameters_are_checks_of_their_own(contract: Contract, make_record: Make) -> None:
    found = cell(
        contract,
        make_record(check="test_boot[bios]"),
        make_record(check="test_boot[efi]", verdict=Verdict.FAILS, reason="no OVMF"),
    )
    assert found.verdict is Verdict.FAILS
    assert found.reasons == ("no OVMF",)


def test_the_newest_run_decides_and_older_ones_keep_their_day(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(run=NEW, verdict=Verdict.FAILS, time=datetime(2026, 1, 2, tzinfo=UTC)),
        make_record(run=OLD, time=datetime(2026, 1, 1, tzinfo=UTC)),
        make_record(run=OLD, feature="nat", time=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    (host,) = matrix.build(contract, records)
    assert str(host.newest_day) == "2026-01-02"
    assert host.cell("iso", "unprivileged").verdict is Verdict.FAILS
    older = host.cell("nat", "unprivileged")
    assert (older.verdict, older.run, str(older.day)) == (Verdict.WORKS, OLD, "2026-01-01")


def test_an_error_after_a_verdict_replaces_it(contract: Contract, make_record: Make) -> None:
    assert cell(contract, make_record(), make_record(verdict=Verdict.ERROR)).verdict is Verdict.ERROR


def test_a_recognised_cause_is_explained(contract: Contract, make_record: Make) -> None:
    found = cell(contract, make_record(verdict=Verdict.KNOWN_FAILURE, cause="macvtap-node-missing", reason="raw"))
    assert found.reasons == (contract.cause("macvtap-node-missing").explanation,)


def test_hosts_are_distinguished(contract: Contract, make_record: Make) -> None:
    hosts = matrix.build(contract, [make_record(), make_record(host=Host(name="other", fingerprint={}))])
    assert [one.host.name for one in hosts] == ["docker-1", "other"]


# ------------------------------------------------------------------------------- hosts and their history


def machine(name: str = "docker-1", **facts: str | int) -> Host:
    return Host(name=name, fingerprint={"arch": "x86_64", "cpu": "one", "cpus": 2, "kernel": "6.1", **facts})


def test_an_upgraded_host_is_one_host_with_a_history(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(run=NEW, host=machine(kernel="6.12"), verdict=Verdict.FAILS),
        make_record(run=OLD, host=machine(kernel="6.1")),
    ]
    (host,) = matrix.build(contract, records)
    assert host.host.fingerprint["kernel"] == "6.12"
    assert [one.verdict for one in host.history["iso", "unprivileged"]] == [Verdict.WORKS, Verdict.FAILS]
    assert host.cell("iso", "unprivileged").flaky is None, "another kernel may say otherwise"


def test_two_machines_of_one_name_are_two_hosts(contract: Contract, make_record: Make) -> None:
    records = [make_record(host=machine(cpu="one")), make_record(host=machine(cpu="other"))]
    assert [one.host.fingerprint["cpu"] for one in matrix.build(contract, records)] == ["one", "other"]


# ------------------------------------------------------------------------------------------------ flaky


def runs(make_record: Make, *verdicts: Verdict, **same: object) -> list[Record]:
    return [
        make_record(**{"run": f"{number}", "asked": "q", "verdict": verdict} | same)
        for number, verdict in enumerate(verdicts)
    ]


WORKS, FAILS, KNOWN = Verdict.WORKS, Verdict.FAILS, Verdict.KNOWN_FAILURE


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([WORKS, FAILS, WORKS, WORKS, WORKS], "works 4 of 5"),
        ([WORKS, WORKS, WORKS, WORKS, FAILS], "works 4 of 5"),
        ([FAILS, FAILS, WORKS], "works 1 of 3"),
        ([KNOWN, FAILS, KNOWN], "known failure 2 of 3"),
        ([Verdict.FIXED, KNOWN], "known failure 1 of 2"),
        ([WORKS, Verdict.ERROR, FAILS], "works 1 of 2"),
        ([WORKS, Verdict.ERROR, WORKS], "None"),
        ([FAILS, FAILS, FAILS], "None"),
    ],
)
def test_contradictions_are_counted(contract: Contract, make_record: Make, verdicts: list[Verdict], said: str) -> None:
    assert str(cell(contract, *runs(make_record, *verdicts)).flaky) == said


@pytest.mark.parametrize(
    "other",
    [
        {"asked": "another question"},
        {"asked": ""},
        {"image": Image(tag="libvirt:1", id="sha256:1", base="")},
        {"host": Host(name="docker-1", fingerprint={"kernel": "6.2"})},
        {"accel": "tcg"},
    ],
)
def test_another_question_is_no_contradiction(contract: Contract, make_record: Make, other: dict[str, object]) -> None:
    (first,) = runs(make_record, WORKS, accel="kvm")
    second = make_record(**{"run": "9", "asked": "q", "accel": "kvm", "verdict": FAILS} | other)
    found = cell(contract, first, second)
    assert (found.verdict, found.flaky) == (FAILS, None)


def test_different_runs_do_not_contradict_each_other(contract: Contract, make_record: Make) -> None:
    assert cell(contract, *runs(make_record, WORKS, FAILS, asked="")).flaky is None


def test_a_guest_that_did_not_start_contradicts_one_that_ran(contract: Contract, make_record: Make) -> None:
    (first,) = runs(make_record, WORKS, accel="kvm")
    assert cell(contract, first, make_record(run="9", asked="q", verdict=FAILS)).flaky


def test_checks_that_fail_in_turn_are_counted_together(contract: Contract, make_record: Make) -> None:
    both = ("test_a", "test_b")
    found = cell(
        contract,
        *runs(make_record, FAILS, WORKS, WORKS, check="test_a", checks=both, reason="a broke"),
        *runs(make_record, WORKS, FAILS, WORKS, check="test_b", checks=both, reason="b broke"),
    )
    assert str(found.flaky) == "works 1 of 3"
    assert found.reasons == (
        "test_a: works 2 of 3 (a broke), fails 1 of 3 (a broke)",
        "test_b: works 2 of 3 (b broke), fails 1 of 3 (b broke)",
    )


def test_a_steady_failure_is_visible_beside_a_flaky_check(contract: Contract, make_record: Make) -> None:
    both = ("test_a", "test_b")
    found = cell(
        contract,
        *runs(make_record, WORKS, FAILS, check="test_a", checks=both),
        *runs(make_record, FAILS, FAILS, check="test_b", checks=both, reason="b broke"),
    )
    assert found.flaky
    assert (str(found.flaky), found.flaky.beside) == ("works 1 of 2", FAILS)
    assert "b broke" in found.reasons


def test_part_of_a_question_can_be_flaky(contract: Contract, make_record: Make) -> None:
    found = cell(contract, *runs(make_record, WORKS, FAILS, WORKS, checks=("test_boot", "test_other")))
    assert str(found.flaky) == "works 2 of 3"
