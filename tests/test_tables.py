from collections.abc import Callable

import pytest

from conformance import tables
from conformance.contract import Contract
from conformance.errors import HarnessError
from conformance.record import Record
from conformance.verdict import Verdict

Make = Callable[..., Record]


def block(name: str, body: str = "") -> str:
    return f"before\n<!-- generated: {name} -->\n{body}<!-- end of generated -->\nafter\n"


def test_only_the_blocks_change(contract: Contract) -> None:
    text = tables.update(block("volumes", "stale\n"), contract, [])
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "| `/var/lib/libvirt/images` | 775 |" in text


@pytest.mark.parametrize(
    "name", ["matrix", "verdicts", "features", "modes", "commands", "parameters", "volumes", "exposures"]
)
def test_each_block_is_stable(contract: Contract, make_record: Make, name: str) -> None:
    once = tables.update(block(name), contract, [make_record()])
    assert tables.update(once, contract, [make_record()]) == once
    assert once.count("<!--") == 2


def test_an_unknown_block_is_an_error(contract: Contract) -> None:
    with pytest.raises(HarnessError, match="nothing generates a block 'weather'"):
        tables.update(block("weather"), contract, [])


def test_without_records_the_table_says_so(contract: Contract) -> None:
    assert "Nothing has been recorded yet." in tables.update(block("matrix"), contract, [])


def test_a_cell_shows_its_verdict_and_its_reason_once(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(verdict=Verdict.UNSUPPORTED, reason="no KVM | here", feature="kvm", mode=mode)
        for mode in ("unprivileged", "privileged")
    ]
    text = tables.update(block("matrix"), contract, records)
    (row,) = [line for line in text.splitlines() if line.startswith("| KVM |")]
    assert row.startswith("| KVM | unsupported <sup>1</sup> | not run | not run | unsupported <sup>1</sup> | not run |")
    assert text.count("no KVM | here") == 1


def test_a_feature_that_has_to_be_asked_for_says_so(contract: Contract, make_record: Make) -> None:
    text = tables.update(block("matrix"), contract, [make_record()])
    (row,) = [line for line in text.splitlines() if line.startswith("| Installing Windows |")]
    assert row.count("not run <sup>") == len(contract.modes)
    reason = contract.feature("install-windows").on_request
    assert reason
    assert any(line.endswith(f". {reason}") for line in text.splitlines())


def test_an_older_record_stands_with_its_day(contract: Contract, make_record: Make) -> None:
    from datetime import UTC, datetime

    text = tables.update(
        block("matrix"),
        contract,
        [
            make_record(run="1", time=datetime(2026, 1, 1, tzinfo=UTC)),
            make_record(run="2", feature="nat", time=datetime(2026, 2, 2, tzinfo=UTC)),
        ],
    )
    assert "| ISO boot | works (2026-01-01) |" in text
    assert "| NAT network | works |" in text


def test_a_changed_record_and_a_hand_in_the_table_are_noticed(contract: Contract, make_record: Make) -> None:
    written = tables.update(block("matrix"), contract, [make_record()])
    assert tables.update(written, contract, [make_record(verdict=Verdict.FAILS)]) != written

    edited = written.replace("| works |", "| **works** |")
    assert edited != written
    assert tables.update(edited, contract, [make_record()]) == written


def test_a_flaky_cell_says_how_often(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(run=str(number), asked="q", verdict=verdict, reason=reason)
        for number, (verdict, reason) in enumerate(
            [(Verdict.WORKS, ""), (Verdict.FAILS, "no carrier"), (Verdict.WORKS, "")]
        )
    ]
    text = tables.update(block("matrix"), contract, records)
    assert "| ISO boot | **flaky**: works 2 of 3 <sup>1</sup> |" in text
    assert "1. test_boot: works 2 of 3, fails 1 of 3 (no carrier)" in text


def test_what_a_mode_gives_away_is_what_was_reached_last(contract: Contract, make_record: Make) -> None:
    def tried(power: str, reached: str, run: str = "20260101T000000Z-a-1", mode: str = "privileged") -> Record:
        check = f"test_the_mode_gives_away_no_more_than_is_known[{power}]"
        return make_record(feature="security", check=check, evidence={"reached": reached}, run=run, mode=mode)

    records = [
        tried("host-disks", "vda", run="20260102T000000Z-a-1"),
        tried("host-disks", ""),
        tried("host-kernel", ""),
        tried("host-kernel", "Exec format error", mode="unprivileged"),
        make_record(feature="security", check="test_other"),
    ]
    lines = tables.given_away(contract, records).splitlines()

    assert "|  | `unprivileged` | `privileged` |" in lines
    assert "| Read the host's disks | not run | **yes** |" in lines
    assert "| Load a module into the host's kernel | **yes** | no |" in lines
    assert tables.given_away(contract, []) == "Nothing has been recorded yet."


def test_host_facts_are_shown_as_they_are() -> None:
    said = "Assertion `ret == cpu->kvm' *failed*, a|b [see] <log>"
    assert tables.literal(said) == r"Assertion \`ret == cpu-\>kvm' \*failed\*, a|b \[see\] \<log\>"
    assert (
        tables.literal("cgroup v1, security: seccomp; kvm_buf_set_msrs")
        == "cgroup v1, security: seccomp; kvm_buf_set_msrs"
    )


def test_powers_that_no_test_names_any_more_are_an_error(
    contract: Contract, make_record: Callable[..., Record]
) -> None:
    tried = make_record(feature="security", check="test_x[renamed]", evidence={"reached": True})
    with pytest.raises(HarnessError, match="renamed"):
        tables.given_away(contract, [tried])
    assert tables.given_away(contract, [])
