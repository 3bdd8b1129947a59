from collections.abc import Callable
from typing import Any

import pytest

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict
from conformance.report.page import cells, summary
from conformance.report.page.cells import Sheet

Make = Callable[..., Record]
Sheets = Callable[..., list[Sheet]]


@pytest.fixture
def sheets(contract: Contract) -> Sheets:
    return lambda *records: cells.sheets(contract, matrix.build(contract, records))


def host(name: str, security: str = "") -> Host:
    return Host(name=name, fingerprint={"security": security})


@pytest.mark.parametrize("security", ["apparmor", "selinux", ""])
def test_the_recommended_mode_of_a_host_is_its_first_column(
    contract: Contract, make_record: Make, sheets: Sheets, security: str
) -> None:
    (made,) = sheets(make_record(host=host("a", security)))
    advice = contract.recommendation(security)
    assert advice is not None
    assert [column.mode.id for column in made.columns if column.recommended] == [advice.mode]
    assert made.columns[0].recommended
    assert [column.mode for column in made.columns[1:]] == [one for one in contract.modes if one.id != advice.mode]


def test_a_cell_is_named_after_its_host_its_mode_and_its_feature(make_record: Make, sheets: Sheets) -> None:
    (made,) = sheets(make_record(host=host("lab-debian-13"), mode="least", feature="kvm"))
    assert made.id == "lab-debian-13"
    assert made.column("least").id == "lab-debian-13.least"
    assert made.places["kvm", "least"].id == "lab-debian-13.least.kvm"


def test_names_differ_for_two_images_and_for_two_machines_with_one_name(make_record: Make, sheets: Sheets) -> None:
    other = Image(tag="libvirt:2", id="sha256:1", base="debian:trixie-slim")
    again = Host(name="docker-1", fingerprint={"cpu": "another one"})
    made = sheets(make_record(), make_record(image=other), make_record(host=again))
    assert len({sheet.id for sheet in made}) == 3
    assert not [sheet.id for sheet in made if " " in sheet.id]


def test_hosts_with_the_most_verdicts_come_first(make_record: Make, sheets: Sheets) -> None:
    made = sheets(
        make_record(host=host("a"), verdict=Verdict.UNSUPPORTED),
        make_record(host=host("b")),
        make_record(host=host("c")),
        make_record(host=host("c"), feature="nat", verdict=Verdict.FAILS),
    )
    assert [sheet.name for sheet in made] == ["c", "b", "a"]


def test_a_mode_counts_its_cells(contract: Contract, make_record: Make, sheets: Sheets) -> None:
    (made,) = sheets(
        make_record(),
        make_record(feature="nat", verdict=Verdict.FAILS),
        make_record(feature="tpm", verdict=Verdict.UNSUPPORTED),
        make_record(mode="least", verdict=Verdict.UNSUPPORTED),
    )
    column = made.column("unprivileged")
    rest = len(contract.features) - 3
    assert list(column.counts.items()) == [("fails", 1), ("works", 1), ("unsupported", 1), ("not-run", rest)]
    assert column.tested
    assert not made.column("least").tested
    assert made.column("least").recorded
    assert not made.column("privileged").recorded


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        ({}, True),
        ({"verdict": Verdict.UNSUPPORTED, "reason": "no KVM"}, False),
        ({"verdict": Verdict.UNSUPPORTED, "reason": "no KVM", "evidence": {"seen": "a device"}}, True),
        ({"feature": "nat"}, False),
    ],
)
def test_a_cell_that_has_only_a_reason_does_not_open(
    make_record: Make, sheets: Sheets, changes: dict[str, Any], opens: bool
) -> None:
    (made,) = sheets(make_record(**changes))
    assert made.places["iso", "unprivileged"].opens is opens


def test_failures_are_listed_by_cause(contract: Contract, make_record: Make, sheets: Sheets) -> None:
    cause = contract.causes[0]
    failed = {"verdict": Verdict.FAILS, "cause": cause.id}
    made = sheets(
        make_record(**failed, reason="one text"),
        make_record(**failed, reason="another text", feature="nat"),
        make_record(**failed, reason="a third one", mode="least"),
        make_record(verdict=Verdict.FAILS, reason="by itself", feature="tpm"),
        make_record(verdict=Verdict.KNOWN_FAILURE, reason="known", feature="uefi"),
    )
    by_cause, alone = summary.failures(contract, made)
    assert (by_cause.reason, len(by_cause.cells)) == (cause.explanation, 3)
    assert (alone.reason, len(alone.cells)) == ("by itself", 1)
    assert [one.reason for one in summary.known_failures(contract, made)] == ["known"]


@pytest.mark.parametrize(
    ("places", "lines"),
    [
        ([("iso", "least"), ("nat", "least")], {"least": ["ISO boot", "NAT network"]}),
        ([("iso", "least"), ("iso", "unprivileged")], {"ISO boot": ["least", "unprivileged"]}),
    ],
)
def test_failures_take_few_lines(
    contract: Contract,
    make_record: Make,
    sheets: Sheets,
    places: list[tuple[str, str]],
    lines: dict[str, list[str]],
) -> None:
    failed = {"verdict": Verdict.FAILS, "reason": "it broke"}
    made = sheets(*(make_record(**failed, feature=feature, mode=mode) for feature, mode in places))
    (failure,) = summary.failures(contract, made)
    assert {line.title: [title for title, _ in line.links] for line in failure.lines} == lines
    assert [name for line in failure.lines for _, name in line.links] == [
        f"docker-1.{mode}.{feature}" for feature, mode in places
    ]


def test_failures_of_a_recommended_mode_come_first(contract: Contract, make_record: Make, sheets: Sheets) -> None:
    made = sheets(
        make_record(verdict=Verdict.FAILS, reason="often"),
        make_record(verdict=Verdict.FAILS, reason="often", feature="nat"),
        make_record(verdict=Verdict.FAILS, reason="recommended", mode="least"),
    )
    assert [one.reason for one in summary.failures(contract, made)] == ["recommended", "often"]


@pytest.mark.parametrize("verdict", [Verdict.FAILS, Verdict.ERROR, Verdict.FIXED])
def test_a_failure_without_a_reason_is_listed(
    contract: Contract, make_record: Make, sheets: Sheets, verdict: Verdict
) -> None:
    (failure,) = summary.failures(contract, sheets(make_record(verdict=verdict)))
    assert failure.reason == verdict.words


def test_a_mode_lists_its_cells_by_verdict_and_reason(contract: Contract, make_record: Make, sheets: Sheets) -> None:
    (made,) = sheets(
        make_record(),
        make_record(feature="nat", verdict=Verdict.FAILS, reason="no route"),
        make_record(feature="tpm", verdict=Verdict.FAILS, reason="no route"),
        make_record(feature="uefi", verdict=Verdict.FAILS, reason="no OVMF"),
    )
    listed = summary.groups(contract, made.column("unprivileged"))
    found = [(one.style, tuple(one.reasons), [place.feature.id for place in one.cells]) for one in listed]
    assert found[:3] == [
        ("fails", ("no OVMF",), ["uefi"]),
        ("fails", ("no route",), ["tpm", "nat"]),
        ("works", (), ["iso"]),
    ]
    assert sum(len(places) for _, _, places in found) == len(contract.features), "each cell is listed once"
