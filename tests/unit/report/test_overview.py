"""The README's overview: recommended modes, and features at a glance."""

from collections.abc import Callable

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Host, Record
from conformance.model.verdict import Verdict
from conformance.report import overview

Make = Callable[..., Record]

ARMORED = Host(name="armored", fingerprint={"security": "apparmor, seccomp", "os": "Debian"})
PLAIN = Host(name="plain-1.0", fingerprint={"security": "seccomp", "os": "Debian"})


def glance(contract: Contract, *records: Record) -> list[list[str]]:
    text = overview.at_a_glance(contract, matrix.build(contract, records))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def cells(table: list[list[str]], title: str) -> list[str]:
    (found,) = [row[1:] for row in table if row[0] == title]
    return found


def test_each_kind_of_host_has_a_mode(contract: Contract, make_record: Make) -> None:
    hosts = matrix.build(contract, [make_record(host=PLAIN, mode="least")])
    text = overview.which_mode(contract, hosts)
    assert [line.split(" | ")[1] for line in text.splitlines()[2:]] == [
        f"`{one.mode}`" for one in contract.recommendations
    ]
    assert "[plain-1.0](docs/compatibility.md#plain-10)" in text
    assert text.count("no host yet") == len(contract.recommendations) - 1


def test_the_numbers_count_each_cell_once_however_many_hosts_tested_it(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(host=PLAIN, mode="least"),
        make_record(host=ARMORED, mode="least"),
        make_record(host=ARMORED, mode="least", feature="kvm", verdict=Verdict.UNSUPPORTED),
    ]
    cells = len(contract.features) * len(contract.modes)
    line = overview.numbers(contract, matrix.build(contract, records), records)
    assert f"1 of {cells} cells tested on at least one of 2 hosts" in line
    assert line.endswith(f"last recorded {records[0].time:%Y-%m-%d}")
    assert "recorded" not in overview.numbers(contract, [], [])


def test_the_first_recommendation_that_fits_counts(contract: Contract) -> None:
    modes = [contract.recommendation(security) for security in ("apparmor, seccomp", "seccomp, selinux", "seccomp", "")]
    assert [one and one.mode for one in modes] == ["least-apparmor", "unprivileged-unlabelled", "least", "least"]


def test_a_column_holds_hosts_of_its_kind_only(contract: Contract, make_record: Make) -> None:
    table = glance(contract, make_record(host=ARMORED, mode="least-apparmor"), make_record(host=ARMORED, mode="least"))
    dash = "\N{EN DASH}"
    assert cells(table, "ISO boot") == ["✅", dash, dash, dash]


def test_the_gravest_verdict_of_a_kind_counts(contract: Contract, make_record: Make) -> None:
    other = ARMORED.model_copy(update={"name": "other"})
    table = glance(
        contract,
        make_record(host=ARMORED, mode="least-apparmor"),
        make_record(host=other, mode="least-apparmor", verdict=Verdict.FAILS),
        make_record(host=other, mode="privileged"),
    )
    assert cells(table, "ISO boot")[0] == "❌ `privileged`"


def test_a_failure_names_the_mode_that_works(contract: Contract, make_record: Make) -> None:
    fails = make_record(host=PLAIN, mode="least", feature="macvlan", verdict=Verdict.KNOWN_FAILURE)
    works = make_record(host=ARMORED, mode="unprivileged-macvtap", feature="macvlan")
    assert cells(glance(contract, fails, works), "Macvlan (macvtap)")[2] == "❌ `unprivileged-macvtap`"
    assert cells(glance(contract, fails), "Macvlan (macvtap)")[2] == f"❌ `unprivileged-macvtap`{overview.EXPECTED}"


def test_no_mode_is_named_where_none_works(contract: Contract, make_record: Make) -> None:
    fails = make_record(host=PLAIN, mode="least", feature="svirt", verdict=Verdict.KNOWN_FAILURE)
    assert cells(glance(contract, fails), "Confined guests (sVirt)")[2] == "❌"


def test_a_host_that_cannot_test_hides_no_other(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(host=PLAIN, mode="least"),
        make_record(host=PLAIN, mode="least", feature="kvm", verdict=Verdict.UNSUPPORTED),
    ]
    assert cells(glance(contract, *records), "KVM")[2] == "n/a"
    other = PLAIN.model_copy(update={"name": "other"})
    assert cells(glance(contract, *records, make_record(host=other, mode="least", feature="kvm")), "KVM")[2] == "✅"


def test_the_first_command_is_short_lines_of_one_command(contract: Contract) -> None:
    lines = overview.quick_start(contract).splitlines()[1:-1]
    assert lines[0].startswith("docker run --detach")
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert max(map(len, lines)) <= overview.WIDTH
