from collections.abc import Callable

import pytest

from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.model.verdict import Verdict
from conformance.report import smoke
from conformance.report.smoke import Row

Make = Callable[..., Record]


def test_a_row_counts_the_checks_that_ran(contract: Contract, make_record: Make) -> None:
    three = ("test_a", "test_b", "test_c")
    records = [
        make_record(feature="nat", check="test_a", checks=three),
        make_record(feature="api", check="test_boot"),
        make_record(feature="kvm", check="test_boot", verdict=Verdict.UNSUPPORTED, reason="no KVM"),
        make_record(feature="nat", check="test_b", checks=three, verdict=Verdict.FAILS, reason="no lease"),
    ]
    assert smoke.rows(contract, records) == [
        Row("libvirt API over TCP", Verdict.WORKS, 1, 1, ""),
        Row("KVM", Verdict.UNSUPPORTED, 0, 1, "no KVM"),
        Row("NAT network", Verdict.FAILS, 2, 3, "no lease"),
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_the_table_keeps_its_width_and_gives_each_reason_once(width: int) -> None:
    long = "the guest did not get a lease " * 5
    rows = [
        Row("NAT network", Verdict.FAILS, 2, 8, long),
        Row("VirtIO network card", Verdict.FAILS, 2, 2, long),
        Row("KVM", Verdict.UNSUPPORTED, 1, 1, "no /dev/kvm"),
    ]
    drawn = smoke.draw(rows, width=width, color=False)
    assert max(map(len, drawn.splitlines())) <= width
    assert "fails  1" in drawn
    assert "unsupported  2" in drawn
    assert "2 of 8" in drawn
    assert "  2  no /dev/kvm" in drawn
    assert "\x1b" not in drawn
