from collections.abc import Callable

import pytest

from conformance import matrix, summary
from conformance.contract import Contract
from conformance.record import Record
from conformance.verdict import Verdict

Make = Callable[..., Record]


def test_a_flaky_cell_says_how_often_and_what_else_is_wrong(contract: Contract, make_record: Make) -> None:
    answers = {"test_a": [Verdict.WORKS, Verdict.FAILS], "test_b": [Verdict.FAILS, Verdict.FAILS]}
    records = [
        make_record(run=str(run), asked="q", check=check, checks=tuple(answers), verdict=verdict, reason="no carrier")
        for check, verdicts in answers.items()
        for run, verdict in enumerate(verdicts)
    ]
    (host,) = matrix.build(contract, records)
    text = summary.render(contract, host, color=False)
    assert "fails; flaky: works 1 of 2" in text
    assert "no carrier" in text


@pytest.mark.parametrize("width", [60, 100, 1000])
def test_modes_that_are_too_many_for_a_terminal_are_shown_in_several_tables(
    contract: Contract, make_record: Make, width: int
) -> None:
    (host,) = matrix.build(contract, [make_record(mode=claims.id) for claims in contract.modes])
    lines = summary.render(contract, host, color=False, width=width).splitlines()

    heads = [lines[number - 1].split() for number, line in enumerate(lines) if line.startswith(" ──")]
    assert [mode for head in heads for mode in head] == [claims.id for claims in contract.modes]
    assert (len(heads) == 1) == (width == 1000)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
