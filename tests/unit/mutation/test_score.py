"""Judgement, order and score of mutants, without an engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.errors import ContractError
from conformance.model.contract import Contract
from conformance.model.record import Host, Image
from conformance.model.verdict import Verdict
from conformance.mutation import catalogue, concern, image_source, observation, order, outcome, score, trial
from conformance.mutation.concern import Concern, Concerns, Equivalent
from conformance.mutation.mutant import Mutant
from conformance.mutation.observation import Observation
from conformance.mutation.outcome import Outcome, Result, judge
from conformance.mutation.score import State
from conformance.selfcheck.outcome import Said

USER = Mutant("setting", "config/qemu.conf", "user", "removed", "QEMU runs as root", {"config/qemu.conf": ""})
OWNER = Mutant("shell", "entrypoint", "own: chown", "deleted", "nobody owns", {"entrypoint": "x"}, lines=(2, 2))
SLOW = ("restart::test_slow",)
CONCERNS = Concerns(
    slow=SLOW,
    concerns=(
        Concern(kind="setting", features=("volumes", "api", "restart::test_slow")),
        Concern(features=("api", "restart")),
    ),
)


def said(check: str, verdict: Verdict, text: str = "") -> Said:
    return Said(feature="api", check=check, verdict=verdict, text=text)


def made(mutant: Mutant, result: Result, by: str = "", *, start: bool = False) -> Outcome:
    return Outcome(
        run="20260101T000000Z-1",
        host=Host(name="here", fingerprint={}),
        image=Image(tag="x", id="sha256:1", base="debian"),
        mode="least",
        mutant=mutant.id,
        kind=mutant.kind,
        file=mutant.file,
        digest=mutant.digest,
        suites="s",
        result=result,
        by=by,
        start=start,
        checks=1,
        seconds=30,
    )


def test_a_bad_verdict_kills() -> None:
    works, fails = said("test_a", Verdict.WORKS), said("test_b", Verdict.FAILS, "no answer")
    assert judge([works, fails]) == (Result.KILLED, fails)
    assert judge([works, said("test_c", Verdict.KNOWN_FAILURE)]) == (Result.SURVIVED, None)
    assert judge([said("test_d", Verdict.UNSUPPORTED)]) == (Result.INVALID, None)
    assert judge([]) == (Result.INVALID, None)


def test_a_container_that_does_not_start_is_named() -> None:
    assert outcome.failed_to_start("the container ended before libvirt answered\nlog")
    assert not outcome.failed_to_start("no lease")


def test_a_slow_check_runs_only_by_its_name() -> None:
    for mutant, runs in ((USER, True), (OWNER, False)):
        assert order.includes(CONCERNS.of_mutant(mutant), SLOW, "restart", "test_slow[stop]") is runs
    assert order.includes(CONCERNS.of_mutant(OWNER), SLOW, "restart", "test_quick")
    assert not order.includes(CONCERNS.of_mutant(USER), SLOW, "restart", "test_quick")


def test_earlier_kills_come_first() -> None:
    same = made(USER, Result.KILLED, "api::test_same")
    kind = made(Mutant("setting", "config/x", "a", "b", "c"), Result.KILLED, "api::test_kind")
    start = made(USER, Result.KILLED, "api::test_start", start=True)
    kills = order.learned(USER, [kind, same, start])
    features = ["volumes", "api"]
    places = {one: order.place(kills, features, "api", one) for one in ("test_same", "test_kind", "test_new")}
    assert sorted(places, key=lambda one: places[one]) == ["test_same", "test_kind", "test_new"]
    assert order.place(kills, features, "volumes", "test_new") < places["test_new"]
    assert "api::test_start" not in kills


def test_the_question_depends_on_the_suites(contract: Contract) -> None:
    one, two = (trial.question(contract, Concern(features=features)) for features in (("api",), ("api", "nat")))
    assert one != two
    assert one == trial.question(contract, Concern(features=("api::test_x",)))


FILES = {"entrypoint": "#!/bin/bash\nchown\n", "config/qemu.conf": "user"}
UNREACHED = Observation(
    reached={"least": {"entrypoint": (1,)}}, sources={"entrypoint": observation.digest(FILES["entrypoint"])}
)


@pytest.mark.parametrize(
    ("mutant", "concerns", "outcomes", "expected"),
    [
        (USER, CONCERNS, [], State.NOT_RUN),
        (USER, CONCERNS, [made(USER, Result.SURVIVED), made(USER, Result.KILLED)], State.KILLED),
        (USER, CONCERNS, [made(OWNER, Result.KILLED)], State.NOT_RUN),
        (OWNER, CONCERNS, [], State.UNREACHED),
        (OWNER, CONCERNS, [made(OWNER, Result.KILLED)], State.KILLED),
        (
            USER,
            CONCERNS.model_copy(
                update={"equivalent": (Equivalent(id=USER.id, reason="libvirt's default is the same"),)}
            ),
            [made(USER, Result.SURVIVED)],
            State.EQUIVALENT,
        ),
    ],
)
def test_the_newest_outcome_of_the_same_change_counts(
    mutant: Mutant, concerns: Concerns, outcomes: list[Outcome], expected: State
) -> None:
    assert score.state(mutant, FILES, concerns, UNREACHED, outcomes) is expected


def test_the_score_leaves_out_equivalent_mutants_and_estimates_untested_ones() -> None:
    tested = [State.KILLED, State.SURVIVED]
    assert score.share([[*tested, State.EQUIVALENT, State.INVALID]]) == "50 %"
    assert score.share([[*tested, State.UNREACHED, State.UNREACHED]]) == "25 %"
    assert score.share([[*tested * 3, *[State.UNREACHED] * 4, *[State.NOT_RUN] * 2]]) == "33 %"
    assert score.share([[*tested, State.NOT_RUN], [State.KILLED]]) == "100 %", "two stand for nothing"
    assert score.share([[State.EQUIVALENT, State.NOT_RUN]]) == "-"


def test_the_tables_count_by_kind_and_file_and_list_survivors() -> None:
    makers = score.makers([USER, OWNER], FILES, CONCERNS, UNREACHED, [made(USER, Result.KILLED, "api::t")])
    table = makers["mutation"]()
    assert "| *Kind setting* | 1 | 1 | 0 | 0 | 0 | 0 | 100 % |" in table
    assert "| `entrypoint` | 1 | 0 | 0 | 1 | 0 | 0 | 0 % |" in table
    assert "| **All** | 2 | 1 | 0 | 1 | 0 | 0 | 50 % |" in table
    assert "estimate" not in table
    assert "| `entrypoint` | `own` | 1 |" in makers["survivors"]()
    assert "No tested mutant survives" in makers["survivors"]()
    survived = score.survivors([USER], {USER.id: State.SURVIVED})
    assert f"| `{USER.id}` | QEMU runs as root |" in survived


def test_an_estimate_says_so() -> None:
    assert "the 1 of 2 that were not run" in score.scores(
        [USER, OWNER], {USER.id: State.KILLED, OWNER.id: State.NOT_RUN}, []
    )


def test_the_projects_own_concerns_hold(contract: Contract) -> None:
    concerns = concern.load()
    mutants = catalogue.mutants(image_source.read(), observation.load())
    concerns.require(contract, mutants)
    for one in mutants:
        assert concerns.of_mutant(one)
    assert len(mutants) == len({one.id for one in mutants})
    assert len(concerns.equivalent) <= len(mutants) / 10


def test_an_unknown_equivalent_is_an_error(contract: Contract, tmp_path: Path, edited: Callable[..., Path]) -> None:
    file = edited("[[equivalent]]\nid = 'shell-x-1'\nreason = 'nobody could ever notice it'\n")
    with pytest.raises(ContractError, match="no mutant has this id"):
        concern.load(file).require(contract, [USER])


def test_a_mutant_without_a_concern_is_an_error() -> None:
    with pytest.raises(ContractError, match=f"no concern .* holds for {USER.id}"):
        Concerns(concerns=(Concern(kind="shell", features=("api",)),)).of_mutant(USER)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    def edited(text: str) -> Path:
        file = tmp_path / "mutation.toml"
        file.write_text("concerns = [{features = ['api']}]\n" + text)
        return file

    return edited
