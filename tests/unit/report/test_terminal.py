from collections.abc import Callable

import pytest

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict
from conformance.report import terminal

Make = Callable[..., Record]


def test_a_flaky_cell_has_counts_and_the_worst_steady_verdict(contract: Contract, make_record: Make) -> None:
    answers = {"test_a": [Verdict.WORKS, Verdict.FAILS], "test_b": [Verdict.FAILS, Verdict.FAILS]}
    records = [
        make_record(run=str(run), asked="q", check=check, checks=tuple(answers), verdict=verdict, reason="no carrier")
        for check, verdicts in answers.items()
        for run, verdict in enumerate(verdicts)
    ]
    (host,) = matrix.build(contract, records)
    text = terminal.draw(contract, host, "docker-1", color=False)
    assert "fails; flaky: works 1 of 2" in text
    assert "no carrier" in text


def test_no_name_is_taken_for_markup(contract: Contract, make_record: Make) -> None:
    tag = "[fe80::1]:5000/libvirt:smile:"
    image = Image(tag=tag, id="sha256:0", base="")
    (text,) = terminal.render(
        contract, [make_record(image=image, verdict=Verdict.FAILS, reason="[red]:x:")], color=False
    )
    assert text.splitlines()[0] == f"docker-1: {tag}"
    assert "  1  [red]:x:" in text


def test_two_machines_with_one_name_are_distinguished(contract: Contract, make_record: Make) -> None:
    records = [make_record(host=Host(name="docker-1", fingerprint={"cpus": cpus})) for cpus in (2, 4)]
    first, second = terminal.render(contract, records, color=False)
    assert "2 CPUs" in first.splitlines()[0]
    assert "4 CPUs" in second.splitlines()[0]


@pytest.mark.parametrize("width", [60, 100, 1000])
def test_modes_that_are_too_many_for_a_terminal_are_shown_in_several_tables(
    contract: Contract, make_record: Make, width: int
) -> None:
    (host,) = matrix.build(contract, [make_record(mode=claims.id) for claims in contract.modes])
    lines = terminal.draw(contract, host, "docker-1", color=False, width=width).splitlines()

    heads = [lines[number - 1].split() for number, line in enumerate(lines) if line.startswith(" ──")]
    assert [mode for head in heads for mode in head] == [claims.id for claims in contract.modes]
    assert (len(heads) == 1) == (width == 1000)
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
