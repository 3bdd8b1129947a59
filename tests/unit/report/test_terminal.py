from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict
from conformance.report import terminal
from conformance.report.terminal import Screen

Make = Callable[..., Record]

RESULTS = Path("results")


def lines_of(contract: Contract, records: list[Record], width: int = 120, **more: object) -> list[str]:
    text = terminal.summary(contract, records, RESULTS, screen=Screen(width), **more)  # type: ignore[arg-type]
    return text.splitlines()


def test_failures_come_first_with_cause_and_evidence(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(verdict=Verdict.KNOWN_FAILURE, feature="svirt", reason="no profiles"),
        make_record(verdict=Verdict.FAILS, feature="nat", check="test_nat", reason="no carrier"),
    ]
    lines = lines_of(contract, records)
    assert lines[:5] == [
        "docker-1: libvirt:1",
        "fails: NAT network in unprivileged: no carrier",
        "    checks: test_nat",
        "    evidence: line 2 of the records",
        "known failure: Confined guests (sVirt) in unprivileged: no profiles",
    ]


def test_a_failure_in_several_modes_is_one_with_evidence_of_each(contract: Contract, make_record: Make) -> None:
    records = [make_record(verdict=Verdict.FAILS, mode=mode, reason="no") for mode in ("least", "privileged")]
    lines = lines_of(contract, records)
    assert "fails: ISO boot in least, privileged: no" in lines
    assert "    evidence: line 1-2 of the records" in lines


def test_checks_that_fail_alike_are_one_and_another_cause_is_another(contract: Contract, make_record: Make) -> None:
    causes = {"test_a": "no carrier", "test_b": "no carrier", "test_c": "no address"}
    records = [
        make_record(verdict=Verdict.FAILS, check=check, checks=tuple(causes), reason=reason)
        for check, reason in causes.items()
    ]
    lines = lines_of(contract, records)
    assert lines[1:7] == [
        "fails: ISO boot in unprivileged: no carrier",
        "    checks: test_a, test_b",
        "    evidence: line 1-2 of the records",
        "fails: ISO boot in unprivileged: no address",
        "    checks: test_c",
        "    evidence: line 3 of the records",
    ]


def test_the_evidence_of_several_hosts_names_its_file(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(verdict=Verdict.FAILS, host=Host(name=name, fingerprint={})) for name in ("docker-1", "lab-1")
    ]
    lines = lines_of(contract, records)
    assert "    evidence: line 1 of lab-1-20260101T000000Z-abcdef-1.jsonl" in lines


def test_known_failures_of_one_cause_are_one_line(contract: Contract, make_record: Make) -> None:
    cause = contract.causes[0]
    records = [
        make_record(verdict=Verdict.KNOWN_FAILURE, cause=cause.id, feature=feature, mode=mode, check=f"test_{number}")
        for feature in ("iso", "nat")
        for mode in ("least", "unprivileged")
        for number in (1, 2)
    ]
    (line,) = [line for line in lines_of(contract, records, width=1000) if line.startswith("known failure")]
    assert line == f"known failure: ISO boot, NAT network in all modes: {cause.explanation}"


def test_modes_that_cannot_run_have_a_line_a_reason_and_no_column(contract: Contract, make_record: Make) -> None:
    records = [make_record(feature=feature, mode="least") for feature in ("iso", "nat")]
    records += [
        make_record(feature=feature, mode=mode, verdict=Verdict.UNSUPPORTED, reason=f"refused ({'long ' * 20})")
        for feature in ("iso", "nat")
        for mode in ("privileged", "privileged-passthrough")
    ]
    lines = lines_of(contract, records)
    assert "not run here: privileged, privileged-passthrough: refused" in lines
    assert [line.split() for line in lines if line.startswith((" ", "ISO"))] == [
        ["least"],
        ["ISO", "boot", "works"],
    ]


def test_reasons_that_were_announced_are_not_repeated(contract: Contract, make_record: Make) -> None:
    reason = f"refused ({'long ' * 20})"
    records = [
        make_record(feature=feature, mode=mode, verdict=verdict, reason=reason)
        for feature in ("iso", "nat")
        for mode, verdict in (("least", Verdict.WORKS), ("privileged", Verdict.UNSUPPORTED))
    ]
    assert any("not run here:" in line for line in lines_of(contract, records))
    lines = lines_of(contract, records, announced=[reason])
    assert not any("not run here:" in line for line in lines)
    assert any("2 not run here" in line for line in lines), "the counts have them"


def test_selected_cells_without_a_record_are_not_run(contract: Contract, make_record: Make) -> None:
    selected = {(feature, mode) for feature in ("iso", "nat") for mode in ("least", "privileged")}
    lines = lines_of(contract, [make_record(feature="nat", mode="least")], reached=(1, 4), selected=selected)
    rows = {line.split("  ")[0]: line.split("  ")[1:] for line in lines if "  " in line}
    assert [cell.strip() for cell in rows["NAT network"] if cell] == ["works", "not run"]
    assert [cell.strip() for cell in rows["ISO boot"] if cell] == ["not run", "not run"]


def test_only_selected_features_are_rows(contract: Contract, make_record: Make) -> None:
    text = "\n".join(lines_of(contract, [make_record(feature="nat")]))
    assert "NAT network  works" in text
    assert "ISO boot" not in text


def test_an_incomplete_cell_names_its_missing_checks_or_their_number(contract: Contract, make_record: Make) -> None:
    many = tuple(f"test_{number}" for number in range(9))
    records = [
        make_record(feature="iso", checks=("test_boot", "test_more")),
        make_record(feature="nat", checks=("test_boot", *many)),
    ]
    lines = lines_of(contract, records)
    assert "incomplete: ISO boot in unprivileged: test_more did not run" in lines
    assert "incomplete: NAT network in unprivileged: 9 checks did not run" in lines


def test_the_last_lines_are_counts_seconds_and_files(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(check=name, checks=("a", "b"), verdict=verdict)
        for name, verdict in (("a", Verdict.WORKS), ("b", Verdict.FAILS))
    ]
    lines = lines_of(contract, records, seconds=130.0, reached=(2, 2))
    assert lines[-2:] == [
        "2 checks in 2 min: 1 fails, 1 works",
        "records: results/docker-1-20260101T000000Z-abcdef-1.jsonl",
    ]


def test_a_run_that_ended_early_says_how_far_it_came(contract: Contract, make_record: Make) -> None:
    (line,) = [line for line in lines_of(contract, [make_record()], reached=(1, 97)) if "early" in line]
    assert line == "ended early, after 1 of 97 checks: 1 works"


def test_a_flaky_cell_has_counts_and_the_worst_steady_verdict(contract: Contract, make_record: Make) -> None:
    answers = {"test_a": [Verdict.WORKS, Verdict.FAILS], "test_b": [Verdict.FAILS, Verdict.FAILS]}
    records = [
        make_record(run=str(run), asked="q", check=check, checks=tuple(answers), verdict=verdict, reason="no carrier")
        for check, verdicts in answers.items()
        for run, verdict in enumerate(verdicts)
    ]
    text = "\n".join(lines_of(contract, records))
    assert "fails; flaky: works 1 of 2" in text
    assert "flaky, works 1 of 2: ISO boot in unprivileged: test_a: works 1 of 2" in text


def test_no_name_is_taken_for_markup(contract: Contract, make_record: Make) -> None:
    tag = "[fe80::1]:5000/libvirt:smile:"
    image = Image(tag=tag, id="sha256:0", base="")
    lines = lines_of(contract, [make_record(image=image, verdict=Verdict.FAILS, reason="[red]:x:")])
    assert lines[0] == f"docker-1: {tag}"
    assert lines[1].endswith("[red]:x:")


def test_two_machines_with_one_name_are_distinguished(contract: Contract, make_record: Make) -> None:
    records = [make_record(host=Host(name="docker-1", fingerprint={"cpus": cpus})) for cpus in (2, 4)]
    heads = [line for line in lines_of(contract, records) if line.startswith("docker-1 ")]
    assert ["2 CPUs" in head for head in heads] == [True, False]


def test_without_colours_there_is_no_escape(contract: Contract, make_record: Make) -> None:
    records = [make_record(verdict=Verdict.FAILS)]
    plain, colored = (terminal.summary(contract, records, RESULTS, screen=Screen(80, one)) for one in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[" in colored


@pytest.mark.parametrize("width", [40, 80, 1000])
def test_modes_that_are_too_many_for_words_are_numbered(contract: Contract, make_record: Make, width: int) -> None:
    records = [make_record(mode=claims.id) for claims in contract.modes]
    lines = lines_of(contract, records, width=width)
    wide = any("works  works" in " ".join(line.split("   ")) or line.count("works") > 2 for line in lines)
    assert wide == (width == 1000)
    text = " ".join(" ".join(lines).split())
    if not wide:
        assert all(f"{number} {claims.id}" in text for number, claims in enumerate(contract.modes, start=1))
        assert "✓ works" in text
    assert all(len(line) <= width for line in lines if not line.startswith("records: "))
