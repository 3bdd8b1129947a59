"""From the answers of configurations to what the documentation should say; without an engine."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance.bench import measure
from conformance.errors import ContractError, EngineError, HarnessError
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Host, Image, Record, append
from conformance.model.verdict import EMULATIONS_FAULT, Verdict
from conformance.privileges import claims, command, configuration, render
from conformance.privileges.claims import Holds, Measured
from conformance.privileges.configuration import Answer, Configuration
from conformance.privileges.configuration_runner import ConfigurationRunner, answer
from conformance.report import markdown
from conformance.run import preparation as runs
from conformance.util.progress import Progress
from conformance.workers import selection, sessions

HOST = Host(name="docker-1", fingerprint={"kernel": "6.1", "engine": "docker 26.1", "cgroup_version": 2})
IMAGE = Image(tag="libvirt:1", id="sha256:1", base="debian")

NEEDS = {"api": {"CHOWN"}, "virtio-disk": {"CHOWN", "KILL"}, "nat": {"CHOWN", "KILL", "NET_ADMIN"}}
"""Of an image that is never started: what its features need."""


def configured(
    contract: Contract, without: Sequence[str], features: Sequence[str] = (), **changes: Any
) -> Configuration:
    """Return what that image answers in a configuration; SYS_PTRACE is missed unless namespaces are given up."""
    kept = {*mode.removable(contract, contract.mode("unprivileged"))} - {*without}
    wanted = {
        one: needs | ({"SYS_PTRACE"} if one != "api" and "namespaces" in kept else set())
        for one, needs in NEEDS.items()
    }
    missing = {one: sorted(needs - kept) for one, needs in wanted.items() if one in (features or NEEDS)}
    answers = {
        one: Answer(verdict="fails", reason=f"no {' '.join(lack)}") if lack else Answer(verdict="works")
        for one, lack in missing.items()
    }
    if not features:
        answers["kvm"] = Answer(verdict="unsupported", reason="no KVM here.")
    given: dict[str, Any] = {
        "run": "20260101T000000Z-a-1",
        "host": HOST,
        "image": IMAGE,
        "mode": "unprivileged",
        "without": tuple(without),
        "answers": answers,
        "warnings": tuple(f"capability {one} is missing: nothing works" for one in without if one != "KILL"),
        "seconds": 1.0,
    }
    return Configuration(**(given | changes))


@pytest.fixture(scope="module")
def contract() -> Contract:
    """The project's own contract, of which only these features are searched."""
    whole = contracts.load()
    features = tuple(one.model_copy(update={"searched": one.id in NEEDS}) for one in whole.features)
    return whole.model_copy(update={"features": features})


@pytest.fixture(scope="module")
def whole(contract: Contract) -> list[Configuration]:
    """All configurations of a finished search."""
    known = [configured(contract, ())]
    while want := configuration.search(contract, "unprivileged", known).wants():
        known.append(configured(contract, sorted(want.without), sorted(want.features)))
    return known


@pytest.fixture
def found(contract: Contract, whole: list[Configuration]) -> Measured:
    (one,) = claims.measured(contract, whole)
    return one


def part(found: Measured, wanted: str) -> claims.Part:
    return next(one for one in found.parts if one.id == wanted)


def test_a_claim_is_compared_with_what_was_measured(found: Measured) -> None:
    assert part(found, "SYS_PTRACE").holds is Holds.HOLDS
    assert part(found, "SYS_ADMIN").holds is Holds.TOO_STRICT
    assert part(found, "NET_ADMIN").holds is Holds.TOO_LAX
    assert part(found, "NET_RAW").holds is Holds.HOLDS
    assert part(found, "CHOWN").holds is Holds.SILENT
    assert part(found, "namespaces").holds is Holds.SILENT


def test_where_not_everything_was_asked_nothing_is_not_needed(whole: list[Configuration]) -> None:
    contract = contracts.load()
    (found,) = claims.measured(contract, whole)

    assert part(found, "SYS_ADMIN").holds is Holds.OPEN
    assert part(found, "NET_ADMIN").holds is Holds.TOO_LAX
    assert "uefi" in found.left_out
    assert "kvm" not in found.left_out
    assert "| `SYS_ADMIN` | required | not needed by the tested features |" in render.documented(contract, [found])
    assert "Not tested: Volumes" in render.details(contract, [found])


def test_the_features_that_are_searched_are_those_with_an_essential_check() -> None:
    chosen = selection.collect_cells(("-m", "essential", "--mode", "unprivileged"))
    assert {feature for feature, _ in chosen} == {one.id for one in contracts.load().searched}


def test_what_breaks_is_told_with_its_reason(found: Measured) -> None:
    assert part(found, "NET_ADMIN").breaks == {"nat": Answer(verdict="fails", reason="no NET_ADMIN")}
    assert [*part(found, "KILL").breaks] == ["virtio-disk", "nat"]
    assert part(found, "KILL").confirmed


def test_a_start_that_names_nothing_is_seen(found: Measured) -> None:
    assert part(found, "CHOWN").named
    assert not part(found, "KILL").named


def test_what_a_host_cannot_be_asked_without_a_part_is_neither_needed_nor_not(contract: Contract) -> None:
    known = [configured(contract, ())]
    while want := configuration.search(contract, "unprivileged", known).wants():
        one = configured(contract, sorted(want.without), sorted(want.features))
        if "dev-kvm" in want.without and "nat" in one.answers:
            hidden = Answer(verdict="unsupported", reason="nobody can wait for it")
            one = one.model_copy(update={"answers": one.answers | {"nat": hidden}})
        known.append(one)
    (found,) = claims.measured(contract, known)

    assert part(found, "dev-kvm").breaks == {}
    assert [*part(found, "dev-kvm").unknown] == ["nat"]
    assert part(found, "dev-kvm").holds is Holds.OPEN
    assert "dev-kvm" in found.findings.least_for["nat"]
    assert "dev-kvm" not in found.findings.least_for["api"]
    details = render.details(contract, [found])
    assert "| `/dev/kvm` | optional | nothing; cannot be tested: NAT network <sup>1</sup> |" in details
    assert "\n1. nobody can wait for it\n" in details


def test_the_smallest_sets_give_up_what_takes_privileges(found: Measured) -> None:
    assert found.findings.least == frozenset({"CHOWN", "KILL", "NET_ADMIN"})
    assert found.findings.least_for["api"] == {"CHOWN"}
    assert part(found, "SYS_PTRACE").last == {}


def test_why_nothing_of_the_smallest_set_can_be_taken_away_is_told(contract: Contract, found: Measured) -> None:
    assert part(found, "NET_ADMIN").last == {"nat": Answer(verdict="fails", reason="no NET_ADMIN")}
    assert frozenset(one.id for one in found.parts if one.last) == found.findings.least
    details = render.details(contract, [found])
    assert "Each part of that set is necessary:\n\n| Removed | Broken by the removal |" in details
    assert "| `NET_ADMIN` | NAT network <sup>1</sup> |" in details


def test_what_failed_once_and_worked_twice_is_no_reason(contract: Contract, whole: list[Configuration]) -> None:
    removable = {*mode.removable(contract, contract.mode("unprivileged"))}
    start = configured(contract, sorted(removable - {"CHOWN", "KILL"}), ["virtio-disk"])
    failed = start.model_copy(update={"answers": {"virtio-disk": Answer(verdict="fails", reason="no time")}})
    (found,) = claims.measured(contract, [*whole, failed, start, start])

    assert [*part(found, "NET_ADMIN").last] == ["nat"]


def test_a_host_that_cannot_be_asked_says_why(found: Measured) -> None:
    assert found.unasked == {"kvm": "no KVM here."}
    assert "kvm" not in found.findings.least_for


def test_the_documentation_stands_beside_the_measurement(contract: Contract, found: Measured) -> None:
    text = render.documented(contract, [found])
    assert "| `SYS_ADMIN` | required | not needed; **too strict** |" in text
    assert "| `NET_ADMIN` | discretionary | needed: NAT network; **too lax** |" in text
    assert "CHOWN" not in text


def test_the_details_name_causes_and_what_the_start_did_not_say(contract: Contract, found: Measured) -> None:
    text = render.details(contract, [found])
    row = next(line for line in text.splitlines() if line.startswith("| `KILL` |"))
    assert row.startswith("| `KILL` | default | all but libvirt API over TCP <sup>")
    assert row.endswith("| yes | **no** |  |")
    assert "no KILL" in text
    assert "Cannot be tested there: KVM, because no KVM here." in text
    assert "| **All of them** | `NET_ADMIN`, `CHOWN`, `KILL` |" in text
    assert "not finished" not in text


def test_the_recommended_mode_stands_beside_the_set_that_was_found(contract: Contract, found: Measured) -> None:
    text = render.details(contract, [found])
    (line,) = [line for line in text.splitlines() if line.startswith("Compared with the set for all")]
    assert line.startswith("Compared with the set for all: `least` also has `/dev/kvm`, `/dev/net/tun`, `DAC_OVERRIDE`")
    assert "lacks" not in line


def test_the_benchmark_counts_a_finished_searchs_starts(contract: Contract, whole: list[Configuration]) -> None:
    (row,) = measure.privilege_starts(whole)
    apart = row.detail.pop("starts apart")
    assert row.detail == {"host": HOST.name, "mode": "unprivileged", "features": len(NEEDS), "starts": len(whole)}
    assert row.values == [round(100 * len(whole) / apart, 1)]
    assert measure.privilege_starts(whole[:5]) == []


def test_an_unfinished_search_says_so(contract: Contract, whole: list[Configuration]) -> None:
    (half,) = claims.measured(contract, whole[:5])
    assert "The search is not finished." in render.details(contract, [half])
    unasked = next(one for one in half.parts if not one.asked)
    assert (unasked.holds, unasked.breaks) in ((Holds.OPEN, {}), (Holds.SILENT, {}))
    assert "\n*Not run*: without `/dev/kvm`, " in render.details(contract, [half])
    assert "| *not run* |" in render.documented(contract, [half])


def test_an_older_images_answers_are_not_mixed_with_the_newest_ones(
    contract: Contract, whole: list[Configuration]
) -> None:
    older = [one.model_copy(update={"image": Image(tag="libvirt:0", id="sha256:0", base="debian")}) for one in whole]
    (one,) = claims.measured(contract, [*older[:5], whole[0]])
    assert one.findings.starts == 1
    assert not one.findings.complete


def test_an_older_images_finished_search_stands_until_the_newest_ones_is(
    contract: Contract, whole: list[Configuration]
) -> None:
    older = [one.model_copy(update={"image": Image(tag="libvirt:0", id="sha256:0", base="debian")}) for one in whole]
    (one,) = claims.measured(contract, [*older, *whole[:5]])
    assert (one.image.id, one.findings.complete) == ("sha256:0", True)
    (one,) = claims.measured(contract, [*older, *whole])
    assert one.image.id != "sha256:0"


def test_two_hosts_stand_side_by_side(contract: Contract, whole: list[Configuration]) -> None:
    other = [one.model_copy(update={"host": Host(name="docker-2", fingerprint={})}) for one in whole]
    found = claims.measured(contract, [*whole, *other])
    assert [one.host.name for one in found] == ["docker-1", "docker-2"]
    assert "Measured on docker-1 | Measured on docker-2" in render.documented(contract, found)


def test_two_machines_of_one_name_are_two_searches(contract: Contract, whole: list[Configuration]) -> None:
    def on(cpus: int) -> list[Configuration]:
        host = Host(name=HOST.name, fingerprint=HOST.fingerprint | {"cpus": cpus})
        return [one.model_copy(update={"host": host}) for one in whole]

    assert len({one.subject for one in (*on(2), *on(4))}) == 2, "what one answers is not asked of it for the other"
    found = claims.measured(contract, [*on(2), *on(4)])
    assert len(found) == 2
    for text in (render.documented(contract, found), render.details(contract, found)):
        assert text.count("2 CPUs)") == text.count("4 CPUs)") == 1


def test_what_a_host_says_is_no_markup(contract: Contract) -> None:
    said = "a`b | <b>c</b>"
    host = Host(name=HOST.name, fingerprint=HOST.fingerprint | {"kernel": said})
    answers = {"api": Answer(verdict="fails", reason=said), "kvm": Answer(verdict="unsupported", reason=said)}
    whole = {one: Answer(verdict="works") for one in answers} | {"kvm": answers["kvm"]}
    known = [configured(contract, (), host=host, answers=whole)]
    known.append(configured(contract, ("CHOWN",), host=host, answers=answers))
    text = render.details(contract, claims.measured(contract, known))
    assert said not in text
    assert text.count(markdown.literal(said)) == 3, "the host, what it cannot be asked, and why a part is needed"


def test_searches_of_modes_that_nobody_knows_are_an_error(contract: Contract) -> None:
    with pytest.raises(HarnessError, match=r"would be empty: .* renamed"):
        claims.measured(contract, [configured(contract, (), mode="renamed")])
    assert claims.measured(contract, []) == []


# ------------------------------------------------------------------------------------------------------- asking


def test_a_features_checks_answer_together(make_record: Callable[..., Record]) -> None:
    failed = make_record(verdict=Verdict.FAILS, cause="", reason="no lease", evidence={"error": "no lease\nconsole"})

    assert answer([make_record(), make_record()]).verdict == "works"
    assert answer([make_record(), failed]) == Answer(verdict="fails", reason="no lease", error="no lease\nconsole")
    assert answer([make_record(verdict=Verdict.UNSUPPORTED, reason="no KVM")]).verdict == "unsupported"


@pytest.mark.parametrize(("crashes", "ends_well"), [(0, True), (1, True), (2, False)])
def test_a_start_in_which_an_emulated_host_let_a_guest_crash_is_repeated_once(
    monkeypatch: pytest.MonkeyPatch,
    make_record: Callable[..., Record],
    contract: Contract,
    crashes: int,
    ends_well: bool,
) -> None:
    crashed = make_record(verdict=Verdict.ERROR, reason=f"the guest ended: {EMULATIONS_FAULT}")
    sessions_given = [[crashed]] * crashes + [[make_record()]]
    run: Any = FakeRun(contract=contract)

    def within(_run: object, _words: object) -> list[Record]:
        run.warnings["mode"] = []
        return sessions_given.pop(0)

    monkeypatch.setattr(sessions, "run_within", within)
    ask = ConfigurationRunner(run, "unprivileged")
    if ends_well:
        assert {one.verdict for one in ask([], []).answers.values()} == {"works"}
    else:
        with pytest.raises(EngineError, match=EMULATIONS_FAULT):
            ask([], [])


@dataclasses.dataclass
class FakeRun:
    """What the search uses of a run."""

    id: str = "20260101T000000Z-a-1"
    host_name: str = HOST.name
    host: Host = HOST
    image: Image = IMAGE
    fingerprint: HostFingerprint | None = None
    minimise_boots: bool = False
    closed: int = 0
    contract: Contract | None = None
    warnings: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        self.closed += 1


Start = Callable[..., tuple[Any, list[Configuration]]]


@pytest.fixture
def starts() -> list[tuple[str, ...]]:
    """What was started, in this order."""
    return []


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, contract: Contract, starts: list[tuple[str, ...]], tmp_path: Path) -> Start:
    """Searches in the image that is never started."""

    def start(
        *features: str, most: int = 10_000, image: Image = IMAGE, parts: Sequence[str] = ()
    ) -> tuple[Any, list[Configuration]]:
        class ConfigurationRunner:
            def __init__(self, _run: FakeRun, _mode: str) -> None:
                pass

            def __call__(self, without: Sequence[str], wanted: Sequence[str]) -> Configuration:
                if len(starts) >= most:
                    raise EngineError("the engine no longer answers")
                starts.append(tuple(without))
                return configured(contract, without, wanted or features, image=image)

        monkeypatch.setattr(command, "ConfigurationRunner", ConfigurationRunner)
        monkeypatch.setattr(runs, "prepare", lambda *_a, **_k: FakeRun(image=image))
        return command.search("unprivileged", Progress(quiet=True), features=features, parts=parts, folder=tmp_path)

    return start


def test_a_search_is_recorded_start_by_start(start: Start, starts: list[tuple[str, ...]], tmp_path: Path) -> None:
    found, known = start()

    assert starts[0] == ()
    assert found.findings().complete
    assert [one.without for one in configuration.read(tmp_path)] == starts == [one.without for one in known]


def test_an_interrupted_search_goes_on_from_its_records(start: Start, starts: list[tuple[str, ...]]) -> None:
    with pytest.raises(EngineError):
        start(most=7)
    before = [*starts]
    found, _ = start()

    assert len(before) == 7
    assert found.findings().complete
    assert starts[:7] == before
    assert starts[7] not in before

    count = len(starts)
    start()
    assert len(starts) == count, "nothing is left to ask"


def test_another_image_is_searched_anew(start: Start, starts: list[tuple[str, ...]]) -> None:
    start()
    count = len(starts)
    start(image=Image(tag="libvirt:2", id="sha256:2", base="debian"))
    assert len(starts) == 2 * count


def test_the_same_source_built_again_goes_on_where_its_search_was(start: Start, starts: list[tuple[str, ...]]) -> None:
    built = Image(tag="libvirt:1", id="sha256:2", base="debian", versions={"libvirt": "11.3.0"}, source="one")
    with pytest.raises(EngineError):
        start(most=7, image=built)
    start(image=built.model_copy(update={"id": "sha256:3"}))
    count = len(starts)
    assert len({*starts[:8]}) == 8, "nothing is asked twice"

    start(image=built.model_copy(update={"versions": {"libvirt": "11.4.0"}}))
    assert len(starts) == 2 * count
    start(image=built.model_copy(update={"source": "two"}))
    assert len(starts) == 3 * count


def test_one_feature_can_be_asked_alone(start: Start) -> None:
    found, known = start("nat")
    assert found.features == ["nat"]
    assert all({*one.answers} == {"nat"} for one in known)
    assert "enough for nat: CHOWN, KILL, NET_ADMIN" in command.summary(found, known)


def test_one_part_can_be_taken_away_alone(start: Start, starts: list[tuple[str, ...]], contract: Contract) -> None:
    found, known = start(parts=["SYS_MODULE"])
    assert starts == [(), ("SYS_MODULE",)]
    assert found.findings().complete
    (measured,) = claims.measured(contract, known)
    assert part(measured, "SYS_MODULE").holds is Holds.HOLDS
    assert "| `SYS_MODULE` | recommended | nothing |" in render.details(contract, [measured])
    assert "*Not run*: without `/dev/kvm`, " in render.details(contract, [measured])

    with pytest.raises(ContractError, match="unprivileged has no removable part 'network-host'"):
        start(parts=["network-host"])


def test_of_a_hosts_searches_the_one_counts_in_whose_mode_it_was_taken_away(
    contract: Contract, whole: list[Configuration]
) -> None:
    in_hosts_network = [
        configured(contract, without, mode="unprivileged-hostnet") for without in ((), ("network-host",))
    ]
    text = render.documented(contract, claims.measured(contract, [*in_hosts_network, *whole]))
    assert "| Exposure | Documented as | Measured on docker-1 |\n" in text
    assert "| `--network=host` | optional | not needed, in `unprivileged-hostnet`; holds |" in text
    assert "| `SYS_ADMIN` | required | not needed; **too strict** |" in text


def test_what_breaks_nearly_all_is_told_by_what_it_does_not(contract: Contract, found: Measured) -> None:
    assert "| `SYS_PTRACE` | required | needed: all but libvirt API over TCP; holds |" in render.documented(
        contract, [found]
    )


def test_a_feature_or_mode_that_does_not_exist_is_refused(start: Start, starts: list[tuple[str, ...]]) -> None:
    with pytest.raises(ContractError, match="no feature is called 'natt'"):
        start("natt")
    assert starts == []


def test_a_damaged_record_is_named(tmp_path: Path, contract: Contract) -> None:
    append(tmp_path / "a.jsonl", configured(contract, ()))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"schema": 1}\n')
    with pytest.raises(HarnessError, match=r"a\.jsonl:2 is not a record"):
        configuration.read(tmp_path)
