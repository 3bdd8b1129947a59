from collections.abc import Callable

import pytest

from conformance.errors import HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict
from conformance.report import markdown

Make = Callable[..., Record]


def block(name: str, body: str = "") -> str:
    return f"before\n<!-- generated: {name} -->\n{body}<!-- end of generated -->\nafter\n"


def test_only_the_blocks_change(contract: Contract) -> None:
    text = markdown.update(block("volumes", "stale\n"), contract, [])
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "| `/var/lib/libvirt/images` | 775 |" in text


@pytest.mark.parametrize(
    "name", ["matrix", "verdicts", "features", "modes", "commands", "parameters", "volumes", "exposures"]
)
def test_each_block_is_stable(contract: Contract, make_record: Make, name: str) -> None:
    once = markdown.update(block(name), contract, [make_record()])
    assert markdown.update(once, contract, [make_record()]) == once
    assert once.count("<!--") == 2


def test_an_unknown_block_is_an_error(contract: Contract) -> None:
    with pytest.raises(HarnessError, match=r"block .*'weather'"):
        markdown.update(block("weather"), contract, [])


def test_a_table_without_records(contract: Contract) -> None:
    assert "Nothing has been recorded yet." in markdown.update(block("matrix"), contract, [])


def test_a_cell_shows_its_verdict_and_its_reason_once(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(verdict=Verdict.UNSUPPORTED, reason="no KVM | here", feature="kvm", mode=mode)
        for mode in ("unprivileged", "privileged")
    ]
    text = markdown.update(block("matrix"), contract, records)
    (row,) = [line for line in text.splitlines() if line.startswith("| KVM |")]
    assert row.startswith("| KVM | unsupported <sup>1</sup> | not run | not run | unsupported <sup>1</sup> | not run |")
    assert text.count("no KVM | here") == 1


def test_an_on_request_feature_has_a_note(contract: Contract, make_record: Make) -> None:
    text = markdown.update(block("matrix"), contract, [make_record()])
    (row,) = [line for line in text.splitlines() if line.startswith("| Installing Windows |")]
    assert row.count("not run <sup>") == len(contract.modes)
    reason = contract.feature("install-windows").on_request
    assert reason
    assert any(line.endswith(f". {reason}") for line in text.splitlines())


def test_an_older_record_stands_with_its_day(contract: Contract, make_record: Make) -> None:
    from datetime import UTC, datetime

    text = markdown.update(
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
    written = markdown.update(block("matrix"), contract, [make_record()])
    assert markdown.update(written, contract, [make_record(verdict=Verdict.FAILS)]) != written

    edited = written.replace("| works |", "| **works** |")
    assert edited != written
    assert markdown.update(edited, contract, [make_record()]) == written


def test_a_flaky_cell_has_counts(contract: Contract, make_record: Make) -> None:
    records = [
        make_record(run=str(number), asked="q", verdict=verdict, reason=reason)
        for number, (verdict, reason) in enumerate(
            [(Verdict.WORKS, ""), (Verdict.FAILS, "no carrier"), (Verdict.WORKS, "")]
        )
    ]
    text = markdown.update(block("matrix"), contract, records)
    assert "| ISO boot | **flaky**: works 2 of 3 <sup>1</sup> |" in text
    assert "1. test_boot: works 2 of 3, fails 1 of 3 (no carrier)" in text


def test_the_newest_record_of_host_access_counts(contract: Contract, make_record: Make) -> None:
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
    lines = markdown.given_away(contract, records).splitlines()

    assert "|  | `unprivileged` | `privileged` |" in lines
    assert f"| {contract.power('host-disks').title} | not run | **yes** |" in lines
    assert f"| {contract.power('host-kernel').title} | **yes** | no |" in lines
    assert markdown.given_away(contract, []) == "Nothing has been recorded yet."


def test_host_facts_are_shown_as_they_are() -> None:
    said = "Assertion `ret == cpu->kvm' *failed*, a|b [see] <log>"
    assert markdown.literal(said) == r"Assertion \`ret == cpu-\>kvm' \*failed\*, a|b \[see\] \<log\>"
    assert (
        markdown.literal("cgroup v1, security: seccomp; kvm_buf_set_msrs")
        == "cgroup v1, security: seccomp; kvm_buf_set_msrs"
    )


def test_no_host_fact_ends_a_line_a_cell_or_a_list() -> None:
    assert markdown.literal("two\nlines\r\n and a tab\t.") == "two lines and a tab ."
    assert markdown.literal("_emphasised_ __init__ $x$ &lt;") == r"\_emphasised\_ \_\_init\_\_ \$x\$ \&lt;"
    for start, shown in {
        "# no heading": r"\# no heading",
        "- no item": r"\- no item",
        "1. no item": r"1\. no item",
    }.items():
        assert markdown.literal(start) == shown


@pytest.mark.parametrize("name", ["matrix", "given-away"])
def test_text_of_a_machine_is_never_markup(contract: Contract, make_record: Make, name: str) -> None:
    def shown(said: str) -> str:
        host = Host(name="docker-1", fingerprint={"kernel": said, "kvm": said, "cpu": said})
        image = Image(tag="libvirt:1", id="sha256:0", base=said, versions={"QEMU": said})
        tried = {"feature": "security", "check": "test_x", "evidence": {"power": "host-disks", "reached": ""}}
        other = host.model_copy(update={"fingerprint": {"cpu": f"other {said}"}})
        records = [
            make_record(host=host, image=image, verdict=Verdict.FAILS, reason=said),
            *(make_record(host=one, image=image, **tried) for one in (host, other)),
        ]
        return markdown.update(block(name), contract, records)

    evil = "a`b | <b>c</b> *d* [e](f)\n# g"
    plain = "a word"
    escaped = markdown.literal(evil)
    assert evil.partition("\n")[0] not in shown(evil)
    in_table = escaped.replace("|", "\\|")
    assert shown(evil).replace(in_table, plain).replace(escaped, plain) == shown(plain)


@pytest.fixture
def two_of_one_name(make_record: Make) -> list[Record]:
    """Records of two machines that have the same name."""
    tried = {"feature": "security", "check": "test_x", "evidence": {"power": "host-disks", "reached": ""}}
    return [
        make_record(host=Host(name="docker-1", fingerprint={"arch": "x86_64", "cpu": "EPYC", "cpus": cpus}), **tried)
        for cpus in (2, 4)
    ]


@pytest.mark.parametrize("name", ["matrix", "given-away"])
def test_two_machines_with_one_name_are_distinguished(
    contract: Contract, two_of_one_name: list[Record], name: str
) -> None:
    for records in (two_of_one_name, two_of_one_name[::-1]):
        text = markdown.update(block(name), contract, records)
        for cpus in (2, 4):
            assert text.count(f"docker-1 (architecture x86_64, processor EPYC, {cpus} CPUs)") == 1
    assert "(architecture" not in markdown.update(block(name), contract, two_of_one_name[:1])


def test_records_of_before_name_the_power_in_their_check(contract: Contract, make_record: Make) -> None:
    old = make_record(feature="security", check="test_x[host-disks]", evidence={"reached": "vda"})
    new = make_record(feature="security", check="test_x[disks]", evidence={"power": "host-disks", "reached": "vda"})
    assert markdown.given_away(contract, [old]) == markdown.given_away(contract, [new])
    assert "| Read the host's disks | **yes** |" in markdown.given_away(contract, [new])


def test_a_table_that_names_emptied_is_an_error(contract: Contract, make_record: Make) -> None:
    old = make_record(feature="security", check="test_x[host-disks]", evidence={"reached": True})
    elsewhere = old.model_copy(update={"host": Host(name="other", fingerprint={}), "check": "test_x[renamed]"})
    with pytest.raises(HarnessError, match=r"other would be empty: .*'renamed' in 'unprivileged'"):
        markdown.given_away(contract, [old, elsewhere])
    with pytest.raises(HarnessError, match="matrix of docker-1 would be empty"):
        markdown.update(block("matrix"), contract, [make_record(feature="renamed"), make_record(mode="renamed")])
    with pytest.raises(HarnessError, match="would be empty"):
        markdown.volumes(contract.model_copy(update={"volumes": ()}))


def test_powers_that_no_test_names_any_more_are_an_error(
    contract: Contract, make_record: Callable[..., Record]
) -> None:
    tried = make_record(feature="security", check="test_x[renamed]", evidence={"reached": True})
    with pytest.raises(HarnessError, match="renamed"):
        markdown.given_away(contract, [tried])
    assert markdown.given_away(contract, [])
