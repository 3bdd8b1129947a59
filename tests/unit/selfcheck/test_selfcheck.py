"""Whether the harness would know that it sees: changes, judgements, records and tables, without an engine."""

import ast
import dataclasses
import io
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import ContractError, EngineError, HarnessError
from conformance.model import mode, record
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict
from conformance.run import preparation as runs
from conformance.selfcheck import change, command, helpers, outcome, seeding, trial, trust, worker
from conformance.selfcheck.change import HARNESS, Change
from conformance.selfcheck.outcome import Outcome, Result, Said, judge
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.util.wait import wait_for
from conformance.workers import sessions as sessions_

HOST = Host(name="docker-1", fingerprint={"kernel": "6.1", "engine": "docker 26.1", "cgroup_version": 2})
IMAGE = Image(tag="libvirt:1", id="sha256:1", base="debian")

NO_DNS = """
title = "No DNS"
dockerfile = "RUN rm dns"
quiet = ["virtio-net"]

[[notice]]
by = "nat::test_dns"
cause = 'dns: .* refused'
"""
NOTHING = 'title = "Nothing"\nquiet = ["nat", "api::test_port"]\nrepeat = 3\n'


def made(folder: Path, text: str, name: str = "no-dns") -> Change:
    (folder / f"{name}.toml").write_text(text)
    return change.read(folder / f"{name}.toml")


@pytest.fixture
def no_dns(tmp_path: Path) -> Change:
    return made(tmp_path, NO_DNS)


@pytest.fixture
def nothing(tmp_path: Path) -> Change:
    return made(tmp_path, NOTHING, "nothing")


def answers(nat: Verdict = Verdict.WORKS, text: str = "", net: Verdict = Verdict.WORKS) -> tuple[Said, ...]:
    return (
        Said(feature="nat", check="test_dns", verdict=nat, text=text),
        Said(feature="virtio-net", check="test_card", verdict=net, text="no card\nat all"),
    )


# ------------------------------------------------------------------------------------------------------ judging


def test_a_defect_is_caught_by_who_has_to_notice_it_for_its_cause(no_dns: Change) -> None:
    assert judge(no_dns, answers(Verdict.FAILS, "dns: 192.168.122.1 refused")) == (Result.CAUGHT, "")


def test_a_defect_that_nobody_notices_is_missed(no_dns: Change) -> None:
    assert judge(no_dns, answers()) == (Result.MISSED, "not noticed by: nat::test_dns")
    assert judge(no_dns, answers(Verdict.UNSUPPORTED))[0] is Result.MISSED
    assert judge(no_dns, answers(Verdict.KNOWN_FAILURE))[0] is Result.MISSED


def test_another_cause_is_a_wrong_reason(no_dns: Change) -> None:
    assert judge(no_dns, answers(Verdict.FAILS, "the guest did not boot")) == (
        Result.WRONG,
        "nat::test_dns was expected to be: fails, 'dns: .* refused'",
    )


def test_another_verdict_is_a_wrong_reason(no_dns: Change) -> None:
    assert judge(no_dns, answers(Verdict.ERROR, "dns: it refused"))[0] is Result.WRONG


def test_the_blame_of_another_feature_is_a_wrong_reason(no_dns: Change) -> None:
    result, why = judge(no_dns, answers(Verdict.FAILS, "dns: it refused", net=Verdict.FAILS))
    assert (result, why) == (Result.WRONG, "blamed: virtio-net::test_card fails: no card")
    assert judge(no_dns, answers(net=Verdict.FAILS))[0] is Result.WRONG


def test_the_blame_of_a_check_of_the_same_feature_counts_only_where_it_is_to_be_quiet(tmp_path: Path) -> None:
    said = (
        *answers(Verdict.FAILS, "dns: it refused"),
        Said(feature="nat", check="test_gateway[efi]", verdict=Verdict.FAILS, text="no gateway"),
    )
    for quiet, result in (
        ("nat", Result.CAUGHT),
        ("nat::test_gateway", Result.WRONG),
        ("nat::test_other", Result.CAUGHT),
    ):
        one = made(tmp_path, NO_DNS.replace("virtio-net", quiet))
        assert judge(one, [one for one in said if one.feature == "nat"])[0] is result


def test_everybody_who_has_to_notice_does(tmp_path: Path) -> None:
    both = made(tmp_path, f"{NO_DNS}\n[[notice]]\nby = 'virtio-net::test_card'\ncause = 'no card'\n")
    assert judge(both, answers(Verdict.FAILS, "dns: it refused", net=Verdict.FAILS))[0] is Result.CAUGHT
    assert judge(both, answers(Verdict.FAILS, "dns: it refused"))[0] is Result.WRONG


def test_a_defect_may_have_to_be_noticed_by_another_verdict_than_fails(tmp_path: Path) -> None:
    less = made(tmp_path, NO_DNS.replace("by =", "verdict = 'unsupported'\nby ="))
    assert judge(less, answers(Verdict.UNSUPPORTED, "dns: it refused"))[0] is Result.CAUGHT
    assert judge(less, answers(Verdict.UNSUPPORTED, "no KVM"))[0] is Result.WRONG
    assert judge(less, answers())[0] is Result.MISSED


@pytest.mark.parametrize("verdict", [Verdict.FAILS, Verdict.FIXED, Verdict.ERROR])
def test_whatever_turns_red_over_a_benign_change_is_a_false_alarm(nothing: Change, verdict: Verdict) -> None:
    assert judge(nothing, answers()) == (Result.QUIET, "")
    assert judge(nothing, answers(Verdict.KNOWN_FAILURE)) == (Result.QUIET, "")
    assert judge(nothing, answers(net=verdict)) == (
        Result.ALARM,
        f"virtio-net::test_card {verdict.words}: no card",
    )


def test_what_a_command_says_is_noticed_by_the_harness_itself(tmp_path: Path) -> None:
    text = (
        "title = 'Cut'\ncommand = ['conformance.cli', 'tables']\n"
        "[[project]]\nfile = 'a'\nold = 'b'\nnew = 'c'\n[[notice]]\nby = 'harness'\ncause = 'behind'\n"
    )
    cut = made(tmp_path, text)
    said = Said(feature=HARNESS, check="conformance.cli tables", verdict=Verdict.FAILS, text="README.md is behind")
    assert cut.layer == "harness"
    assert judge(cut, [said])[0] is Result.CAUGHT
    assert judge(cut, [said.model_copy(update={"text": "no module"})])[0] is Result.WRONG
    assert judge(cut, [said.model_copy(update={"verdict": Verdict.WORKS})])[0] is Result.MISSED

    comment = made(tmp_path, f"quiet = ['harness']\n{text.partition('[[notice]]')[0]}", "comment")
    assert comment.benign
    assert judge(comment, [said])[0] is Result.ALARM
    assert judge(comment, [said.model_copy(update={"verdict": Verdict.WORKS})])[0] is Result.QUIET


# ------------------------------------------------------------------------------------------------------ changes


def checks() -> dict[str, set[str]]:
    """Return the names of all checks by their feature's marker."""
    return {
        file.stem.removeprefix("test_"): {
            node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)
        }
        for file in paths.SUITES.glob("test_*.py")
    }


KNOWN = change.load()


@pytest.mark.parametrize("one", KNOWN, ids=[one.id for one in KNOWN])
def test_each_change_asks_what_there_is(one: Change, contract: Contract) -> None:
    one.require(contract)
    for ask in one.asks:
        named = ask.check.partition("[")[0]
        assert not named or named in checks()[contract.feature(ask.feature).marker]


@pytest.mark.parametrize("one", KNOWN, ids=[one.id for one in KNOWN])
def test_each_change_finds_what_it_changes(one: Change) -> None:
    for folder, edits in ((paths.PROJECT, one.project), (paths.ISOS / "probe", one.medium)):
        for each in edits:
            assert any(each.old in file.read_text(encoding="utf-8") for file in folder.glob(each.file)), each


def test_there_are_enough_defects_over_every_layer() -> None:
    defects = [one for one in KNOWN if not one.benign]
    assert len(defects) >= 40
    assert {one.layer for one in defects} == {"image", "mode", "medium", "harness"}


def test_each_feature_has_two_defects_to_notice_at_least(contract: Contract) -> None:
    counts = Counter(feature for one in KNOWN for feature in one.features)
    asked = [one.id for one in contract.features if not one.pending and not one.on_request]
    assert {one: counts[one] for one in asked if counts[one] < 2} == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('title = "a"', "no check runs"),
        (NO_DNS.replace("cause = 'dns: .* refused'", "cause = '('"), "not a regular expression"),
        (NO_DNS.replace("quiet", "loud"), "loud"),
        (f"command = ['pytest']\n{NO_DNS}", "project and command go together"),
        (NO_DNS.replace("nat::test_dns", "harness"), "a command excludes other checks"),
        ("title =", "is not a change"),
    ],
)
def test_a_file_that_is_no_change_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        made(tmp_path, text)


def test_names_are_unique_and_known(tmp_path: Path, no_dns: Change) -> None:
    other = tmp_path / "other"
    other.mkdir()
    made(other, NOTHING)
    with pytest.raises(ContractError, match="two changes are called 'no-dns'"):
        change.load([tmp_path, other])
    with pytest.raises(ContractError, match="no change is called 'nodns'"):
        change.chosen([no_dns], ["nodns"])
    assert change.chosen([no_dns], []) == [no_dns]


def test_a_feature_that_is_not_there_is_refused(tmp_path: Path, contract: Contract) -> None:
    with pytest.raises(ContractError, match="no feature is called 'natt'"):
        made(tmp_path, NO_DNS.replace("nat::", "natt::")).require(contract)


def test_a_feature_alone_means_its_essential_checks(nothing: Change) -> None:
    nat, port = nothing.asks
    assert nat.includes("nat", "test_any", essential=True)
    assert not nat.includes("nat", "test_any", essential=False)
    assert port.includes("api", "test_port[efi]", essential=False)
    assert not port.includes("api", "test_other", essential=True)


# ------------------------------------------------------------------------------------------------------ seeding


def test_the_engine_is_told_something_else_than_the_mode_says(contract: Contract) -> None:
    plain = mode.from_contract(contract, "unprivileged")
    misled = seeding._MisledMode(**seeding._fields(plain), call={"HostConfig": {"CapAdd": ["KILL"]}, "Env": None})
    before, after = (one.engine_call("libvirt:1", network="n") for one in (plain, misled))

    assert after["HostConfig"] == before["HostConfig"] | {"CapAdd": ["KILL"]}
    assert after["Env"] is None
    assert misled.granted == plain.granted, "it is judged by what it declares"
    assert dataclasses.replace(misled, majors={}).call == misled.call


def test_an_edit_that_finds_nothing_is_no_defect(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two two")
    seeding.edit(tmp_path, [change.Edit(file="*.txt", old="two", new="2")])
    assert (tmp_path / "a.txt").read_text() == "one 2 2"
    with pytest.raises(ContractError, match="does not contain 'two'"):
        seeding.edit(tmp_path, [change.Edit(file="a.txt", old="two", new="2")])


def test_a_command_is_asked_in_a_copy_of_the_project(tmp_path: Path) -> None:
    text = (
        "title = 'Broken'\ncommand = ['conformance.cli', 'modes']\n"
        "[[project]]\nfile = 'contract.toml'\nold = 'schema = 1'\nnew = 'schema ='\n"
        "[[notice]]\nby = 'harness'\ncause = 'contract.toml is not TOML'\n"
    )
    broken = made(tmp_path, text)
    before = paths.CONTRACT.read_bytes()

    assert judge(broken, trial._command(broken, tmp_path)) == (Result.CAUGHT, "")
    assert paths.CONTRACT.read_bytes() == before


# ------------------------------------------------------------------------------------------- asking and recording


@dataclasses.dataclass
class FakeRun:
    """What a selfcheck uses of a run."""

    contract: Contract
    image: Image = IMAGE
    id: str = "20260101T000000Z-a-1"
    host_name: str = HOST.name
    host: Host = HOST
    kvm: Any = None
    disposable: bool = False
    peer_network: str = "192.168.128.2"
    minimise_boots: bool = False

    def close(self) -> None:
        pass


class Selfcheck:
    """Selfchecks of an image that is never started; what each suite says is given beforehand."""

    def __init__(self, folder: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.said = answers(Verdict.FAILS, "dns: it refused")
        self.asked: list[tuple[str, int]] = []
        self.most = 100
        self.image = IMAGE
        self.kvm = True
        self.lab = False
        self.helped: list[tuple[str, ...]] = []
        monkeypatch.setattr(helpers, "_helper", self._helper)
        monkeypatch.setattr(helpers, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(runs, "prepare", lambda *_a, **_k: self._run(contract))
        monkeypatch.setattr(trial, "_suites", self._suites)

    def _run(self, contract: Contract) -> FakeRun:
        kvm = type("Kvm", (), {"usable": self.kvm, "seen": "no KVM here"})
        return FakeRun(contract, image=self.image, kvm=kvm, disposable=self.lab)

    def _helper(self, _module: str, words: Sequence[str], _log: Path) -> "subprocess.Popen[bytes]":
        self.helped.append(tuple(words))
        return subprocess.Popen(["true"])

    def _suites(self, run: Any, one: Change, *_: Any) -> tuple[Said, ...]:
        if len(self.asked) >= self.most:
            raise EngineError("the engine no longer answers")
        self.asked.append((one.id, len(self.asked)))
        return self.said

    def __call__(self, *changes: Change, at_once: int = 1) -> list[Outcome]:
        return command.selfcheck(changes, Progress(quiet=True), folder=self.folder, at_once=at_once)


@pytest.fixture
def check(tmp_path: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> Selfcheck:
    return Selfcheck(tmp_path / "results", contract, monkeypatch)


def test_each_outcome_is_recorded_and_not_asked_again(check: Selfcheck, no_dns: Change, nothing: Change) -> None:
    found = check(no_dns, nothing)

    assert [(one.change, one.turn, one.result) for one in found] == [
        ("no-dns", 1, Result.CAUGHT),
        ("nothing", 1, Result.ALARM),
        ("nothing", 2, Result.ALARM),
        ("nothing", 3, Result.ALARM),
    ]
    assert outcome.read(check.folder) == found
    assert check(no_dns, nothing) == found
    assert len(check.asked) == 4


def test_what_was_interrupted_goes_on_from_its_records(check: Selfcheck, no_dns: Change, nothing: Change) -> None:
    check.most = 2
    with pytest.raises(HarnessError, match="nothing: the engine no longer answers"):
        check(no_dns, nothing)
    assert [one.turn for one in outcome.read(check.folder)] == [1, 1]

    check.most = 100
    assert len(check(no_dns, nothing)) == 4
    assert [name for name, _ in check.asked] == ["no-dns", "nothing", "nothing", "nothing"]


def test_another_question_is_asked_anew(check: Selfcheck, no_dns: Change, tmp_path: Path) -> None:
    check(no_dns)
    check.image = Image(tag="libvirt:2", id="sha256:2", base="debian")
    check(no_dns)
    check(made(tmp_path, NO_DNS.replace("refused", "rejected")))
    assert len(check.asked) == 3


def test_where_kvm_does_not_work_a_defect_of_it_is_not_run_and_asked_again(check: Selfcheck, tmp_path: Path) -> None:
    hers = made(tmp_path, f"needs = ['kvm']\n{NO_DNS}")
    check.kvm = False
    (found,) = check(hers)
    assert (found.result, found.why, check.asked) == (Result.NOT_RUN, "no KVM here", [])

    check.kvm = True
    assert [one.result for one in check(hers)] == [Result.CAUGHT]


def test_what_is_seen_on_a_lab_only_is_not_run_elsewhere(check: Selfcheck, tmp_path: Path) -> None:
    theirs = made(tmp_path, f"needs = ['lab']\n{NO_DNS}")
    (found,) = check(theirs)
    assert (found.result, found.why, check.asked) == (Result.NOT_RUN, "it needs a lab (--host lab)", [])

    check.lab = True
    assert [one.result for one in check(theirs)] == [Result.CAUGHT]


@pytest.mark.parametrize("theirs_ends_well", [True, False])
def test_what_somebody_else_is_asking_is_left_to_them_unless_they_end(
    check: Selfcheck, no_dns: Change, nothing: Change, *, theirs_ends_well: bool
) -> None:
    (theirs,) = check(no_dns)
    (file,) = check.folder.iterdir()
    file.unlink()
    check.asked.clear()
    with ThreadPoolExecutor() as pool:
        with helpers.claimed(f"{check.folder.resolve()} {HOST.name} no-dns 1") as mine:
            assert mine
            found = pool.submit(check, no_dns, nothing)
            wait_for("the rest to be asked", lambda: len(check.asked) == 3, seconds=10)
            if theirs_ends_well:
                record.append(check.folder / "theirs.jsonl", theirs)
        assert [one.change for one in found.result(10)] == ["no-dns", "nothing", "nothing", "nothing"]
    assert [name for name, _ in check.asked] == ["nothing"] * 3 + ([] if theirs_ends_well else ["no-dns"])


def test_no_more_help_than_there_is_to_ask(check: Selfcheck, no_dns: Change, nothing: Change) -> None:
    check(no_dns, nothing, at_once=3)
    words = (str(check.folder.resolve()), "", "60", "no-dns", "nothing")
    assert check.helped == [words, words]
    check(no_dns, nothing, at_once=3)
    assert len(check.helped) == 2, "all is recorded"


def test_who_cannot_help_is_told_of_and_not_missed(
    check: Selfcheck,
    no_dns: Change,
    nothing: Change,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(helpers, "_helper", lambda *_: subprocess.Popen(["false"]))
    told = io.StringIO()
    found = command.selfcheck([no_dns, nothing], Progress(told), folder=check.folder, at_once=2)
    assert len(found) == 4
    assert "a helper process ended with status 1" in told.getvalue()


def test_a_part_asks_what_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(worker, "selfcheck", lambda changes, _progress, **how: told.update(how, changes=changes))
    assert worker.main(str(tmp_path), "", "60.0", KNOWN[0].id) == 0
    assert told == {"changes": [KNOWN[0]], "folder": tmp_path, "tag": None, "ready_seconds": 60.0}

    def cannot(*_: Any, **_how: Any) -> None:
        raise EngineError("the engine no longer answers")

    monkeypatch.setattr(worker, "selfcheck", cannot)
    assert worker.main(str(tmp_path), "", "60.0") == 1
    assert "the engine no longer answers" in capsys.readouterr().err


def test_the_summary_names_what_is_not_as_it_should_be(check: Selfcheck, no_dns: Change, nothing: Change) -> None:
    told = command.summary(check(no_dns, nothing))
    assert "no-dns:" not in told
    assert told.count("nothing: false alarm: nat::test_dns fails: dns: it refused") == 3
    assert told.endswith("1 caught, 3 false alarm; 0 minutes of tests")


def test_a_records_whole_error_is_what_is_judged(make_record: Callable[..., Record]) -> None:
    failed = make_record(feature="nat", verdict=Verdict.FAILS, reason="no", evidence={"error": "no\nbecause"})
    works, fails = outcome.said([make_record(), failed])
    assert (works.text, fails.text) == ("", "no\nbecause")


# ------------------------------------------------------------------------------------------------------- sessions


def test_a_session_within_a_run_that_asks_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = type("Run", (), {"recorder": type("Recorder", (), {"records": []})()})()
    monkeypatch.setattr(pytest, "main", lambda *_a, **_k: 5)
    with pytest.raises(HarnessError, match="pytest suites ended with status 5"):
        sessions_.run_within(run, ["suites"])


# --------------------------------------------------------------------------------------------------------- tables


def came(one: Change, result: Result, **changes: Any) -> Outcome:
    given: dict[str, Any] = {
        "run": "20260101T000000Z-a-1",
        "host": HOST,
        "image": IMAGE,
        "mode": one.mode,
        "change": one.id,
        "digest": one.digest,
        "suites": "s",
        "turn": 1,
        "result": result,
        "seconds": 60.0,
    }
    return Outcome(**(given | changes))


def drawn(contract: Contract, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {name: draw() for name, draw in trust.makers(contract, changes, outcomes).items()}


def test_what_has_no_record_was_not_run(contract: Contract, no_dns: Change, nothing: Change) -> None:
    text = drawn(contract, [no_dns, nothing], [])
    assert "| NAT network | 1 | 0 | 0 | 0 | 1 |" in text["trust"]
    assert "False alarms: 0 in 0 runs." in text["trust"]
    assert "| No DNS | image | NAT network | not run |" in text["defects"]
    assert "| Nothing | 0 of 3 | not run |" in text["benign"]


def test_the_score_counts_defects_by_who_has_to_notice(contract: Contract, no_dns: Change, nothing: Change) -> None:
    alarm = came(nothing, Result.ALARM, turn=2, why="nat fails")
    outcomes = [came(no_dns, Result.MISSED), came(no_dns, Result.CAUGHT), came(nothing, Result.QUIET), alarm]
    text = drawn(contract, [no_dns, nothing], outcomes)

    assert "| NAT network | 1 | 1 | 0 | 0 | 0 |" in text["trust"], "the newest outcome counts"
    assert "| *Seeded into the image* | 1 | 1 | 0 | 0 | 0 |" in text["trust"]
    assert "| **All** | 1 | 1 | 0 | 0 | 0 |" in text["trust"]
    assert "False alarms: 1 in 2 runs. One after another, all changes take 3 minutes." in text["trust"]
    assert "| Nothing | 2 of 3 | **1 false alarms**: nat fails |" in text["benign"]


def test_a_miss_stands_out(contract: Contract, no_dns: Change) -> None:
    text = drawn(contract, [no_dns], [came(no_dns, Result.MISSED, why="not noticed by: nat::test_dns")])
    assert "| NAT network | 1 | 0 | 0 | 1 | 0 |" in text["trust"]
    assert "| **missed**: not noticed by: nat::test_dns |" in text["defects"]


def test_an_outcome_of_a_change_that_is_another_one_by_now_does_not_count(contract: Contract, no_dns: Change) -> None:
    old = came(no_dns, Result.CAUGHT, digest="older")
    assert "| NAT network | 1 | 0 | 0 | 0 | 1 |" in drawn(contract, [no_dns], [old])["trust"]


def test_what_a_check_said_is_no_markup(contract: Contract, no_dns: Change, nothing: Change) -> None:
    outcomes = [came(no_dns, Result.MISSED, why="a`b <c>"), came(nothing, Result.ALARM, why="a`b <c>")]
    text = drawn(contract, [no_dns, nothing], outcomes)
    for name in ("defects", "benign"):
        assert r": a\`b \<c\> |" in text[name]


def test_two_machines_of_one_name_are_told_apart(contract: Contract, no_dns: Change) -> None:
    hosts = [Host(name="docker-1", fingerprint={"cpus": cpus}) for cpus in (2, 4)]
    text = drawn(contract, [no_dns], [came(no_dns, Result.CAUGHT, host=one) for one in hosts])["trust"]
    first, second = text.split("4 CPUs)")
    assert "2 CPUs)" in first
    for one in (first, second):
        assert "| NAT network | 1 | 1 | 0 | 0 | 0 |" in one


def test_two_hosts_stand_one_below_the_other(contract: Contract, no_dns: Change) -> None:
    other = came(no_dns, Result.MISSED, host=Host(name="docker-2", fingerprint={}))
    text = drawn(contract, [no_dns], [came(no_dns, Result.CAUGHT), other])["trust"]
    first, second = text.split("**docker-2**")
    assert "| NAT network | 1 | 1 | 0 | 0 | 0 |" in first
    assert "| NAT network | 1 | 0 | 0 | 1 | 0 |" in second
