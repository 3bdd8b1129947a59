"""The compatibility matrix: columns, folded modes, notes."""

from collections.abc import Callable
from datetime import UTC, datetime

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Host, Record
from conformance.model.verdict import Verdict
from conformance.report import compatibility

Make = Callable[..., Record]


def rendered(contract: Contract, *records: Record) -> str:
    return compatibility.matrices(contract, matrix.build(contract, records))


def row(text: str, title: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    return found


def test_modes_with_the_same_cells_share_a_column(contract: Contract, make_record: Make) -> None:
    text = rendered(
        contract,
        *(make_record(mode=mode) for mode in ("unprivileged", "unprivileged-hostnet")),
        make_record(mode="privileged", verdict=Verdict.FAILS, reason="no carrier"),
    )
    assert "- **A**: `unprivileged`; the same as `unprivileged-hostnet`" in text
    assert "- **B**: `privileged`" in text
    assert row(text, "ISO boot") == "| ISO boot | ✅ | 🛑 <sup>1</sup> |"
    assert "1. no carrier" in text


def test_other_reasons_are_another_column(contract: Contract, make_record: Make) -> None:
    text = rendered(
        contract,
        make_record(mode="unprivileged", verdict=Verdict.FAILS, reason="no carrier"),
        make_record(mode="privileged", verdict=Verdict.FAILS, reason="no disk"),
    )
    assert row(text, "ISO boot") == "| ISO boot | 🛑 <sup>1</sup> | 🛑 <sup>2</sup> |"


def test_a_mode_that_the_host_cannot_test_is_a_line(contract: Contract, make_record: Make) -> None:
    text = rendered(
        contract,
        make_record(),
        *(
            make_record(mode="privileged", feature=one, verdict=Verdict.UNSUPPORTED, reason="no root.")
            for one in ("kvm", "iso")
        ),
    )
    assert "- not testable here (no root): `privileged`" in text
    assert row(text, "KVM").count("|") == 3


def test_the_recommended_mode_is_the_first_column(contract: Contract, make_record: Make) -> None:
    host = Host(name="armored", fingerprint={"security": "apparmor, seccomp"})
    text = rendered(contract, *(make_record(host=host, mode=one.id, reason=one.id) for one in contract.modes))
    assert "- **A**: `least-apparmor` (recommended)" in text


def test_hosts_with_more_verdicts_come_first(contract: Contract, make_record: Make) -> None:
    other = Host(name="zz", fingerprint={})
    text = rendered(contract, make_record(), make_record(host=other), make_record(host=other, feature="nat"))
    assert text.index("## zz") < text.index("## docker-1")


def test_a_reason_is_noted_once(contract: Contract, make_record: Make) -> None:
    text = rendered(
        contract,
        make_record(),
        *(make_record(feature=one, verdict=Verdict.UNSUPPORTED, reason="no KVM | here") for one in ("kvm", "tpm")),
    )
    assert row(text, "KVM") == "| KVM | n/a <sup>1</sup> |"
    assert row(text, "TPM") == "| TPM | n/a <sup>1</sup> |"
    assert text.count("no KVM | here") == 1


def test_a_feature_that_runs_on_request_only_says_so(contract: Contract, make_record: Make) -> None:
    text = rendered(contract, make_record())
    assert "<sup>" in row(text, "Installing Windows")
    reason = contract.feature("install-windows").on_request
    assert reason
    assert any(line.endswith(f". {reason}") for line in text.splitlines())


def test_days_stand_in_one_line(contract: Contract, make_record: Make) -> None:
    days = [datetime(2026, month, month, tzinfo=UTC) for month in (1, 2)]
    text = rendered(contract, make_record(run="1", time=days[0]), make_record(run="2", time=days[1], feature="nat"))
    (line,) = [line for line in text.splitlines() if "2026-" in line]
    assert line.startswith("Recorded with ")
    assert "2026-01-01 to 2026-02-02 (A)" in line


def test_a_changed_verdict_changes_the_table(contract: Contract, make_record: Make) -> None:
    assert rendered(contract, make_record()) != rendered(contract, make_record(verdict=Verdict.FAILS))


def test_a_flaky_cell_counts_the_runs(contract: Contract, make_record: Make) -> None:
    verdicts = [(Verdict.WORKS, ""), (Verdict.FAILS, "no carrier"), (Verdict.WORKS, "")]
    text = rendered(
        contract,
        *(
            make_record(run=str(number), asked="q", verdict=verdict, reason=reason)
            for number, (verdict, reason) in enumerate(verdicts)
        ),
    )
    assert row(text, "ISO boot") == "| ISO boot | **flaky**: works 2 of 3 <sup>1</sup> |"
    assert "1. test_boot: works 2 of 3, fails 1 of 3 (no carrier)" in text


def test_an_anchor_is_the_one_of_github() -> None:
    assert compatibility.anchor("docker-20.10-cgroup1") == "docker-2010-cgroup1"
    assert compatibility.anchor("One (two, 3 CPUs)") == "one-two-3-cpus"
