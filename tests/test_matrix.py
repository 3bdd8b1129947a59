from collections.abc import Callable
from datetime import UTC, datetime

from conformance import matrix
from conformance.contract import Contract
from conformance.matrix import Cell
from conformance.record import Host, Record
from conformance.verdict import Verdict

Make = Callable[..., Record]
OLD, NEW = "20260101T000000Z-abcdef-1", "20260102T000000Z-abcdef-2"


def cell(contract: Contract, *records: Record) -> Cell:
    (host,) = matrix.build(contract, records)
    return host.cell("iso", "unprivileged")


def test_nothing_recorded_is_no_host(contract: Contract) -> None:
    assert matrix.build(contract, []) == []


def test_a_cell_that_nobody_asked_is_not_run(contract: Contract, make_record: Make) -> None:
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


def test_hosts_are_told_apart(contract: Contract, make_record: Make) -> None:
    hosts = matrix.build(contract, [make_record(), make_record(host=Host(name="other", fingerprint={}))])
    assert [one.host.name for one in hosts] == ["docker-1", "other"]
