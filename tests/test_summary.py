from collections.abc import Callable

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
