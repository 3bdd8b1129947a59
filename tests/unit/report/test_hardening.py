"""The table of what confines guests' QEMU."""

from collections.abc import Callable
from typing import Any

import pytest

from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.report import hardening

Make = Callable[..., Record]

QEMU: dict[str, Any] = {
    "user": [2001],
    "groups": [993, 2001],
    "capabilities": 0,
    "new_privileges": False,
    "filters": 1,
    "mount_namespace": True,
    "control_group": True,
    "listens": ["127.0.0.1"],
}


def row(contract: Contract, make_record: Make, **weaknesses: object) -> list[str]:
    record = make_record(feature="hardening", evidence={"qemu": QEMU | weaknesses})
    (line,) = [line for line in hardening.confinements(contract, [record]).splitlines() if line.startswith("| `")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_confined_qemu_holds_in_each_column(contract: Contract, make_record: Make) -> None:
    assert row(contract, make_record) == ["yes"] * len(hardening.COLUMNS)


@pytest.mark.parametrize(
    ("weakness", "value", "column"),
    [
        ("user", [0, 2001], 0),
        ("groups", [0], 0),
        ("capabilities", 1, 1),
        ("new_privileges", True, 1),
        ("filters", 0, 2),
        ("mount_namespace", False, 3),
        ("control_group", False, 4),
        ("listens", ["127.0.0.1", "0.0.0.0"], 5),
    ],
)
def test_each_weakness_is_in_its_column(
    contract: Contract, make_record: Make, weakness: str, value: object, column: int
) -> None:
    cells = row(contract, make_record, **{weakness: value})
    assert [number for number, cell in enumerate(cells) if cell == "**no**"] == [column]


def test_the_newest_record_counts(contract: Contract, make_record: Make) -> None:
    old = make_record(feature="hardening", run="20260101T000000Z-a-1", evidence={"qemu": QEMU | {"filters": 0}})
    new = make_record(feature="hardening", run="20260201T000000Z-a-1", evidence={"qemu": QEMU})
    assert "**no**" not in hardening.confinements(contract, [new, old])


def test_nothing_recorded_is_said(contract: Contract, make_record: Make) -> None:
    assert hardening.confinements(contract, [make_record()]) == "Nothing has been recorded yet."
