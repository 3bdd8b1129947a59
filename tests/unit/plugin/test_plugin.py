"""The way from an outcome to a verdict, in sessions of pytest's own, without an engine."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from conformance.engine import client
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.errors import BadOption, EngineError, HarnessError
from conformance.host.kvm import HostKvm, KvmProbe
from conformance.model import contract as contracts
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Image, Recorder
from conformance.model.verdict import CRASH, EMULATIONS_FAULT
from conformance.plugin import collection, state
from conformance.run.context import Run
from conformance.util import paths
from conformance.util.progress import read
from conformance.workers.worker import WorkerPlugin

PREAMBLE = """
import libvirt, pytest
from conformance.errors import EngineError, ImageFailure, ImageLate, Unsupported
from conformance.util.wait import DeadlineExpired
pytestmark = pytest.mark.{marker}
"""


@dataclass
class Outcome:
    """What a session came to."""

    result: pytest.RunResult
    records: list[dict[str, Any]]

    @property
    def verdicts(self) -> dict[str, str]:
        return {record["check"]: record["verdict"] for record in self.records}


class NoEngine:
    """An engine on which nothing was made."""

    gone = False

    def ping(self) -> bool:
        if self.gone:
            raise requests.exceptions.ConnectionError("refused")
        return True

    class api:  # noqa: N801
        @staticmethod
        def containers(**_: Any) -> list[Any]:
            return []

        networks = images = containers

        @staticmethod
        def volumes(**_: Any) -> dict[str, Any]:
            return {"Volumes": []}


Ask = Callable[..., Outcome]


@pytest.fixture
def ask(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Runs a suite in a session of its own; returns what was recorded."""

    def prepare(contract: contracts.Contract, _progress: object, *, results: Path, **given: Any) -> Run:
        engine = Engine(NoEngine(), "unix:///engine.sock", {}, "docker 26.1")  # type: ignore[arg-type]
        asking = KvmProbe(HostShell(engine.client, "sha256:0", "run"), None)  # type: ignore[arg-type]
        monkeypatch.setattr(asking, "result", lambda: HostKvm(False, "no KVM"))
        return Run(
            id="run",
            contract=contract,
            engine=engine,
            fingerprint=HostFingerprint("6.1", 2, (), "docker 26.1", "Debian", "x86_64", "CPU", 2),
            kvm_probe=asking,
            accel="auto",
            image=Image(tag="libvirt:1", id="sha256:0", base="debian"),
            probe=None,  # type: ignore[arg-type]
            host_name="host",
            recorder=Recorder(results, "host", given["recorded_as"] or "run"),
            pci_devices=given["pci_devices"],
        )

    monkeypatch.setattr(collection, "prepare", prepare)
    monkeypatch.setattr(HostShell, "output", lambda *_, **__: "")

    pytester.makeconftest((paths.PROJECT / "conftest.py").read_text())

    def ask(
        body: str, *options: str, marker: str = "api", mode: str | None = "unprivileged", plugins: Sequence[object] = ()
    ) -> Outcome:
        pytester.makepyfile(PREAMBLE.format(marker=marker) + body)
        results = tmp_path / "results"
        result = pytester.runpytest_inprocess(
            *(["--mode", mode] if mode else []),
            f"--results={results}",
            *options,
            no_reraise_ctrlc=True,
            plugins=plugins,
        )
        files = list(results.glob("*.jsonl")) if results.exists() else []
        return Outcome(result, [json.loads(line) for file in files for line in file.read_text().splitlines()])

    return ask


def test_a_check_that_holds_works(ask: Ask) -> None:
    outcome = ask("def test_it(mode, evidence): evidence['seen'] = 7")
    assert outcome.verdicts == {"test_it": "works"}
    (record,) = outcome.records
    assert (record["mode"], record["feature"], record["evidence"]["seen"]) == ("unprivileged", "api", 7)
    assert outcome.result.ret == 0


@pytest.mark.parametrize(
    ("emulated", "ended", "verdict"), [(True, CRASH, "error"), (False, CRASH, "fails"), (True, "login:", "fails")]
)
def test_a_kernel_that_crashes_on_an_emulated_host_says_nothing_about_the_image(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, emulated: bool, ended: str, verdict: str
) -> None:
    monkeypatch.setattr(Run, "emulated", emulated)
    outcome = ask(f"def test_it(mode): raise ImageFailure('the guest ended\\nits console: {ended} in interrupt')")
    (record,) = outcome.records
    assert record["verdict"] == verdict
    assert (EMULATIONS_FAULT in record["reason"]) == (verdict == "error")
    assert f"its console: {ended} in interrupt" in record["evidence"]["error"]


@pytest.mark.parametrize(
    "statement",
    [
        "assert 1 == 2",
        "raise libvirt.libvirtError('refused')",
        "raise ImageFailure('the guest is silent')",
        "raise ImageLate('waited 5 s for a lease')",
    ],
)
def test_evidence_against_the_image_fails(ask: Ask, statement: str) -> None:
    outcome = ask(f"def test_it(mode): {statement}")
    assert outcome.verdicts == {"test_it": "fails"}
    outcome.result.assert_outcomes(failed=1)
    assert outcome.result.ret == 1


@pytest.mark.parametrize(
    "statement",
    [
        "raise EngineError('gone')",
        "raise DeadlineExpired('the engine', 5, 'nothing')",
        "{}['bug']",
        "pytest.fail('given up')",
    ],
)
def test_what_breaks_in_the_harness_is_an_error(ask: Ask, statement: str) -> None:
    outcome = ask(f"def test_it(mode): {statement}")
    assert outcome.verdicts == {"test_it": "error"}
    outcome.result.assert_outcomes(errors=1)
    assert outcome.result.ret == 1


@pytest.mark.parametrize("statement", ["assert False", "raise libvirt.libvirtError('client socket is closed')"])
def test_what_is_seen_after_the_engine_went_away_is_no_evidence(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.setattr(NoEngine, "gone", True)
    outcome = ask(f"def test_it(mode): {statement}\ndef test_other(mode): pass")
    assert outcome.verdicts == {"test_it": "error"}
    assert "the engine no longer answers" in outcome.records[0]["reason"]
    assert outcome.result.ret != 0


def test_a_fixture_may_fail_the_image_too(ask: Ask) -> None:
    outcome = ask(
        "@pytest.fixture\ndef broken(): raise ImageFailure('it ended')\ndef test_it(mode, broken): pass",
    )
    assert outcome.verdicts == {"test_it": "fails"}
    outcome.result.assert_outcomes(failed=1)


def test_an_error_after_the_verdict_is_recorded_beside_it(ask: Ask) -> None:
    outcome = ask(
        "@pytest.fixture\ndef late():\n    yield\n    raise EngineError('gone')\ndef test_it(mode, late): pass"
    )
    assert [record["verdict"] for record in outcome.records] == ["works", "error"]


def test_a_host_that_cannot_be_asked_is_unsupported_and_decides_nothing(ask: Ask) -> None:
    outcome = ask("def test_it(mode): raise Unsupported('no KVM')")
    assert outcome.verdicts == {"test_it": "unsupported"}
    assert outcome.records[0]["reason"] == "no KVM"
    outcome.result.assert_outcomes(skipped=1)
    assert outcome.result.ret == state.EXIT_NOTHING_DECIDED
    outcome.result.stdout.fnmatch_lines(["0 checks in *: 1 not run here; no check reached a verdict"])


TWO_MODES = ("--mode", "unprivileged-apparmor")
"""Beside the default mode of :func:`ask`; the fake host has no AppArmor."""


def test_a_mode_that_cannot_run_is_listed_and_recorded_without_a_test(ask: Ask, pytester: pytest.Pytester) -> None:
    outcome = ask("def test_it(mode): assert mode.id == 'unprivileged'", *TWO_MODES, "--junit-xml=junit.xml")
    reason = "same as unprivileged on hosts without AppArmor"
    assert [(one["mode"], one["verdict"], one["reason"]) for one in outcome.records] == [
        ("unprivileged-apparmor", "unsupported", reason),
        ("unprivileged", "works", ""),
    ]
    assert outcome.records[0]["evidence"]["error"] == reason
    outcome.result.assert_outcomes(passed=1, deselected=1)
    outcome.result.stdout.fnmatch_lines(
        [f"not run here: unprivileged-apparmor: {reason}", "collected 2 items / 1 deselected / 1 selected"]
    )
    xml = (pytester.path / "junit.xml").read_text()
    assert f'<property name="not run here: unprivileged-apparmor" value="{reason}"' in xml
    assert 'tests="1"' in xml


def test_where_no_mode_can_run_all_is_recorded_and_nothing_decided(ask: Ask) -> None:
    outcome = ask("def test_it(mode): raise AssertionError", mode="unprivileged-apparmor")
    assert outcome.verdicts == {"test_it": "unsupported"}
    assert outcome.result.ret == state.EXIT_NOTHING_DECIDED
    outcome.result.stdout.fnmatch_lines(["0 checks in *: 1 not run here; no check reached a verdict"])


def test_a_feature_that_the_host_lacks_runs_in_no_mode(ask: Ask) -> None:
    outcome = ask("def test_it(pci_pool, mode): raise AssertionError", marker="pci_passthrough")
    assert outcome.verdicts == {"test_it": "unsupported"}
    outcome.result.assert_outcomes(deselected=1)
    line = "not run here: PCI passthrough: the host has no IOMMU:*"
    outcome.result.stdout.fnmatch_lines([line])
    assert outcome.result.stdout.str().count("not run here: PCI passthrough") == 1


def test_a_quiet_session_lists_what_cannot_run_in_its_summary(ask: Ask) -> None:
    outcome = ask("def test_it(pci_pool, mode): raise AssertionError", "-q", marker="pci_passthrough")
    assert outcome.result.stdout.str().count("not run here: PCI passthrough") == 1


def test_progress_counts_checks_and_modes_in_place_of_dots(ask: Ask) -> None:
    outcome = ask(
        "def test_one(mode): pass\ndef test_two(mode): assert mode.id == 'least', 'no carrier'", "--mode", "least"
    )
    outcome.result.stdout.fnmatch_lines(
        [
            "mode 1/2 unprivileged * 0/2 checks",
            "fails: api in unprivileged, test_two: no carrier*",
            "unprivileged: 2 checks in * s: 1 fails, 1 works",
            "mode 2/2 least * 0/2 checks*",
            "least: 2 checks in * s: 2 work",
            "fails: libvirt API over TCP in unprivileged: no carrier*",
            "    checks: test_two",
            "    evidence: line 2 of the records",
            "4 checks in *: 1 fails, 3 work",
        ]
    )
    assert "short test summary" not in str(outcome.result.stdout)
    outcome.result.stdout.no_fnmatch_line("*test_progress_counts*.py *[.]*")


@pytest.mark.parametrize(("option", "line"), [("-v", "*::test_it?unprivileged? PASSED*"), ("-q", ".*100%]")])
def test_pytests_own_lines_stay_with_its_options(ask: Ask, option: str, line: str) -> None:
    outcome = ask("def test_it(mode): pass", option)
    outcome.result.stdout.fnmatch_lines([line])
    outcome.result.stdout.no_fnmatch_line("mode 1/1*")


def test_pytests_summary_comes_on_demand(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pytest.skip('no medium')", "-rs")
    outcome.result.stdout.fnmatch_lines(["SKIPPED * no medium"])


def test_a_plain_skip_is_not_run(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pytest.skip('no medium')")
    assert outcome.verdicts == {"test_it": "not-run"}
    assert "no medium" in outcome.records[0]["reason"]


MACVTAP = "libvirt.libvirtError('cannot open macvtap tap device /dev/tap7: No such file or directory')"


def test_a_known_failure_needs_its_cause(ask: Ask) -> None:
    outcome = ask(f"def test_it(mode): raise {MACVTAP}", marker="macvlan")
    assert outcome.verdicts == {"test_it": "known-failure"}
    assert outcome.records[0]["cause"] == "macvtap-node-missing"
    outcome.result.assert_outcomes(xfailed=1)
    assert outcome.result.ret == 0


def test_a_known_failure_in_a_fixture_counts_as_well(ask: Ask) -> None:
    outcome = ask(f"@pytest.fixture\ndef tap(): raise {MACVTAP}\ndef test_it(mode, tap): pass", marker="macvlan")
    assert outcome.verdicts == {"test_it": "known-failure"}


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        ("raise libvirt.libvirtError('out of memory')", "fails"),
        ("assert False", "fails"),
        ("raise EngineError('cannot open macvtap tap device /dev/tap7: No such file or directory')", "error"),
    ],
)
def test_another_cause_is_no_known_failure(ask: Ask, statement: str, verdict: str) -> None:
    outcome = ask(f"def test_it(mode): {statement}", marker="macvlan")
    assert outcome.verdicts == {"test_it": verdict}
    assert outcome.result.ret == 1


def test_a_known_failure_that_works_is_fixed_and_fails_the_session(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pass", marker="macvlan")
    assert outcome.verdicts == {"test_it": "fixed"}
    outcome.result.assert_outcomes(failed=1)


def test_each_mode_is_asked(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pass", "--mode", "privileged")
    assert sorted(record["mode"] for record in outcome.records) == ["privileged", "unprivileged"]


def test_parameters_are_told_apart(ask: Ask) -> None:
    body = "@pytest.mark.parametrize('firmware', ['bios', 'efi'])\ndef test_it(mode, firmware): pass"
    outcome = ask(body, mode="unprivileged-hostnet")
    assert set(outcome.verdicts) == {"test_it[bios]", "test_it[efi]"}
    assert outcome.records[0]["checks"] == ["test_it[bios]", "test_it[efi]"]


def test_questions_of_the_hosts_network_are_asked_there_only(ask: Ask) -> None:
    body = "@pytest.mark.host_network\ndef test_it(mode): pass\ndef test_other(mode): pass"
    assert set(ask(body).verdicts) == {"test_other"}
    outcome = ask(body, mode="unprivileged-hostnet")
    assert [record["checks"] for record in outcome.records if record["mode"] == "unprivileged-hostnet"] == [
        ["test_it", "test_other"]
    ] * 2


def test_a_link_is_asked_about_where_one_is_named_and_in_the_hosts_network(ask: Ask) -> None:
    body = """
@pytest.mark.host_network
@pytest.mark.macvtap_link
def test_it(mode, macvtap_link, evidence): evidence['link'] = macvtap_link
def test_other(mode): pass
"""
    assert set(ask(body, mode="unprivileged-hostnet").verdicts) == {"test_other"}
    assert set(ask(body, "--macvtap-link", "eth1").verdicts) == {"test_other"}
    outcome = ask(body, "--macvtap-link", "eth1", mode="unprivileged-hostnet")
    assert [record["evidence"].get("link") for record in outcome.records if record["check"] == "test_it"] == ["eth1"]


def test_pci_devices_that_are_named_reach_the_run(ask: Ask) -> None:
    body = """
def test_it(run, evidence, mode): evidence["named"] = run.pci_devices
def test_other(pci_pool, mode): pass
"""
    outcome = ask(body, "--pci-device", "00:04.0", "--pci-device=0000:00:05.0", marker="pci_passthrough")
    named = [record["evidence"].get("named") for record in outcome.records if record["check"] == "test_it"]
    assert named == [["0000:00:04.0", "0000:00:05.0"]]
    assert outcome.verdicts == {"test_it": "fixed", "test_other": "unsupported"}
    wrong = ask(body, "--pci-device", "eth0", marker="pci_passthrough")
    assert wrong.result.ret == pytest.ExitCode.USAGE_ERROR
    wrong.result.stderr.fnmatch_lines(["*'eth0' is not the address of a PCI device*"])


GIVEN = """
@pytest.mark.user_iso
def test_given(mode, user_iso, evidence): evidence["given"] = [user_iso.path.name, user_iso.expected, user_iso.firmware]
def test_other(mode): pass
"""


def test_a_medium_is_asked_about_only_where_one_is_given(ask: Ask, tmp_path: Path) -> None:
    outcome = ask(GIVEN)
    assert set(outcome.verdicts) == {"test_other"}
    assert outcome.records[0]["checks"] == ["test_other"], "nothing is missing without it"

    iso = tmp_path / "own.iso"
    iso.write_bytes(bytes(16 * 2048) + b"\1CD001\1")
    outcome = ask(GIVEN, "--iso", str(iso), "--iso-expect", "login:", "--iso-firmware", "efi")
    (record,) = [record for record in outcome.records if record["check"] == "test_given"]
    assert record["evidence"]["given"] == ["own.iso", "login:", "efi"]
    assert record["checks"] == ["test_given", "test_other"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--iso", "none.iso", "--iso-expect", "x"], "none.iso cannot be read: No such file or directory"),
        (["--iso", ".", "--iso-expect", "x"], "--iso: . is a folder"),
        (["--iso", "none.iso"], "--iso without --iso-expect"),
        (["--iso-expect", "x"], "--iso-expect without --iso"),
        (["--iso", "none.iso", "--iso-expect", "("], "'(' is no regular expression"),
        (["--iso", "none.iso", "--iso-expect", "x", "--iso-firmware", "coreboot"], "invalid choice: 'coreboot'"),
    ],
)
def test_a_bad_medium_is_a_usage_error_before_any_work(ask: Ask, options: list[str], told: str) -> None:
    outcome = ask(GIVEN, *options)
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in str(outcome.result.stderr)
    assert "Traceback" not in str(outcome.result.stderr)
    assert not outcome.records


LONG = """
@pytest.mark.install
def test_it(mode): pass
"""


@pytest.mark.parametrize("expression", ["install", "install_debian", "api or install", "install_debian and not api"])
def test_what_takes_long_is_asked_where_m_names_it(ask: Ask, expression: str) -> None:
    assert ask(LONG, "-m", expression, marker="install_debian").verdicts == {"test_it": "works"}


@pytest.mark.parametrize(
    "options", [(), ("-m", "install_debian and not install"), ("-k", "test_it"), ("-m", "not api")]
)
def test_what_takes_long_is_asked_only_there(ask: Ask, options: tuple[str, ...]) -> None:
    outcome = ask(LONG, *options, marker="install_debian")
    assert outcome.records == []
    outcome.result.assert_outcomes(deselected=1)


def test_an_options_file_that_hides_the_projects_settings_is_told(
    ask: Ask, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyprojecttoml("[tool.pytest]\nstrict = true\n")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    iso = elsewhere / "own.iso"
    iso.write_bytes(bytes(16 * 2048) + b"\1CD001\1")
    words = ["--mode", "unprivileged", "--iso-expect", "x"]

    result = pytester.runpytest_inprocess(*words, "--iso", str(iso))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*option's file*", "*as in --iso=FILE*"])

    pytester.makepyfile("def test_plain(): pass")
    pytester.runpytest_inprocess(*words, f"--iso={iso}").assert_outcomes(passed=1)


def test_a_part_of_the_checks_is_known_as_a_part(ask: Ask) -> None:
    outcome = ask("def test_one(mode): pass\ndef test_two(mode): pass", "-k", "one")
    assert outcome.records[0]["checks"] == ["test_one", "test_two"]
    outcome.result.stdout.fnmatch_lines(["incomplete: * in unprivileged: test_two did not run"])


def test_a_part_of_a_checks_parameters_is_known_as_a_part(ask: Ask) -> None:
    test = "import pytest\n@pytest.mark.parametrize('by', ['bios', 'efi'])\ndef test_it(mode, by): pass"
    outcome = ask(test, "-k", "efi")
    assert outcome.records[0]["checks"] == ["test_it[bios]", "test_it[efi]"]
    outcome.result.stdout.fnmatch_lines(["incomplete: * in unprivileged: test_it?bios? did not run"])


PART = """
@pytest.mark.essential
def test_one(mode): pass
def test_two(mode): pass
"""


@pytest.mark.parametrize(
    ("profile", "marker", "ran"),
    [
        ("smoke", "api", {"test_one"}),
        ("smoke", "restart", set()),
        ("standard", "api", {"test_one", "test_two"}),
        ("full", "restart", {"test_one", "test_two"}),
    ],
)
def test_a_profile_selects_features_and_checks(ask: Ask, profile: str, marker: str, ran: set[str]) -> None:
    outcome = ask(PART, f"--profile={profile}", marker=marker)
    assert outcome.verdicts.keys() == ran
    assert all(one["checks"] == ["test_one", "test_two"] for one in outcome.records), "a part is known as a part"


def test_a_profile_of_a_part_shows_how_many_checks_ran(ask: Ask) -> None:
    outcome = ask(PART, "--profile=smoke")
    outcome.result.stdout.fnmatch_lines(["profile smoke, mode unprivileged: works: 1", "*works*1 of 2*", "records: *"])


def test_a_feature_without_essential_checks_is_tested_whole(ask: Ask) -> None:
    outcome = ask("def test_one(mode): pass\ndef test_two(mode): pass", "--profile=smoke")
    assert outcome.verdicts.keys() == {"test_one", "test_two"}


@pytest.mark.parametrize(("security", "mode"), [(("apparmor",), "least-apparmor"), (("seccomp",), "least")])
def test_a_profile_tests_the_mode_recommended_for_the_engines_host(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, security: tuple[str, ...], mode: str
) -> None:
    class Found:
        def fingerprint(self) -> HostFingerprint:
            return HostFingerprint("6.1", 2, security, "docker 26.1", "Debian", "x86_64", "CPU", 2)

    monkeypatch.setattr(client, "connect", Found)
    outcome = ask(PART, "--profile=smoke", mode=None)
    assert [one["mode"] for one in outcome.records] == [mode]


def test_a_collection_asks_no_engine_and_lists_the_modes_of_every_kind_of_host(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "connect", None)
    outcome = ask(PART, "--profile=smoke", "--collect-only", "-q", mode=None)
    for mode in ("least", "least-apparmor", "unprivileged-unlabelled"):
        outcome.result.stdout.fnmatch_lines([f"*test_one?{mode}?"])


def test_an_unknown_profile_is_a_usage_error_that_lists_the_known_ones(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pass", "--profile=quick")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*no profile is called 'quick'*", "*smoke, standard, full*"])


def test_an_unknown_mode_is_a_usage_error_that_lists_the_known_ones(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pass", mode="root")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*no mode is called 'root'*", "*unprivileged-hostnet*"])


def test_an_unknown_feature_is_a_usage_error_before_any_work(
    ask: Ask, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyprojecttoml("[tool.pytest]\nstrict = true\n")
    monkeypatch.setattr(collection, "prepare", None)
    outcome = ask("def test_it(mode): pass", "-m", "kvmm")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*kvmm*", "  what to do: *kvm, uefi*"])
    assert not outcome.records


def test_records_in_a_file_are_a_usage_error_before_any_work(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(collection, "prepare", None)
    outcome = ask("def test_it(mode): pass", f"--results={tmp_path / 'file'}")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*file is no folder", "  what to do: *--results"])


def test_an_image_that_the_engine_lacks_is_a_usage_error(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_: Any, **__: Any) -> Run:
        raise BadOption("the engine has no image 'nosuch:tag'", "pull it")

    monkeypatch.setattr(collection, "prepare", prepare)
    outcome = ask("def test_it(mode): pass")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*no image 'nosuch:tag'", "  what to do: pull it"])
    assert "Exit:" not in outcome.result.stdout.str() + outcome.result.stderr.str()


def test_nothing_is_prepared_for_a_suite_that_cannot_be_read(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "prepare", None)
    outcome = ask("def test_it(mode): pass\nimport no_such_module")
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    outcome.result.stdout.fnmatch_lines(["*no_such_module*"])


def test_a_machine_that_cannot_run_anything_is_told_at_once(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepare(*_: Any, **__: Any) -> Run:
        raise HarnessError("nothing answers", "start an engine")

    monkeypatch.setattr(collection, "prepare", prepare)
    outcome = ask("def test_it(mode): pass")
    assert outcome.result.ret == state.EXIT_CANNOT_RUN
    text = outcome.result.stdout.str() + outcome.result.stderr.str()
    assert "nothing answers" in text
    assert "start an engine" in text
    assert "Traceback" not in text


def test_a_session_without_questions_needs_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "prepare", None)
    pytester.makepyfile("def test_plain(): pass")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_ctrl_c_keeps_what_was_recorded(ask: Ask) -> None:
    outcome = ask("def test_one(mode): pass\ndef test_two(mode): raise KeyboardInterrupt\ndef test_three(mode): pass")
    assert outcome.verdicts == {"test_one": "works"}
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    outcome.result.stdout.fnmatch_lines(["ended early, after 1 of 3 checks in *: 1 works", "interrupted"])
    assert "KeyboardInterrupt" not in outcome.result.stdout.str()


def test_ctrl_c_before_the_first_verdict_says_how_many_checks_had_ended(ask: Ask) -> None:
    outcome = ask("def test_one(mode): raise KeyboardInterrupt\ndef test_two(mode): pass")
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    outcome.result.stdout.fnmatch_lines(["ended early, after 0 of 2 checks in *", "interrupted"])
    assert "full-trace" not in outcome.result.stdout.str()


def test_ctrl_c_shows_its_place_on_demand(ask: Ask) -> None:
    outcome = ask("def test_one(mode): raise KeyboardInterrupt", "--full-trace")
    assert "KeyboardInterrupt" in outcome.result.stdout.str()


def test_a_selected_feature_that_ctrl_c_kept_from_running_is_in_the_table(ask: Ask) -> None:
    outcome = ask(
        "def test_one(mode): pass\ndef test_two(mode): raise KeyboardInterrupt\n"
        "@pytest.mark.nat\ndef test_three(mode): pass"
    )
    outcome.result.stdout.fnmatch_lines(["NAT network * not run", "ended early, after 1 of 3 checks in *"])


def test_junit_tells_a_failure_from_an_error(ask: Ask, pytester: pytest.Pytester) -> None:
    ask(
        "def test_bad(mode): assert False\ndef test_broken(mode): raise EngineError('gone')",
        "--junit-xml=junit.xml",
    )
    xml = (pytester.path / "junit.xml").read_text()
    assert 'errors="1"' in xml
    assert 'failures="1"' in xml
    assert '<property name="verdict" value="fails"' in xml


def test_an_engine_that_is_gone_ends_the_session_and_what_was_recorded_stays(ask: Ask) -> None:
    outcome = ask(
        "from conformance.errors import EngineGone\n"
        "def test_one(mode): pass\ndef test_two(mode): raise EngineGone('went away')\ndef test_three(mode): pass"
    )
    assert outcome.verdicts == {"test_one": "works", "test_two": "error"}
    assert outcome.result.ret == 1
    outcome.result.stdout.fnmatch_lines(["ended early, after 2 of 3 checks in *: 1 error, 1 works"])


def test_a_full_disk_is_no_evidence_against_the_image(ask: Ask) -> None:
    outcome = ask("def test_it(mode): raise libvirt.libvirtError('cannot write: No space left on device')")
    assert outcome.verdicts == {"test_it": "error"}


def test_a_full_disk_under_the_records_ends_the_session_and_keeps_what_is_there(ask: Ask) -> None:
    outcome = ask(
        "import resource\n"
        "@pytest.fixture(scope='module')\n"
        "def small_files():\n"
        "    before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))\n"
        "    yield\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, before)\n"
        "def test_one(mode, small_files): pass\n"
        "def test_two(mode, small_files, evidence): evidence['much'] = 'x' * 1_000_000\n"
        "def test_three(mode): pass"
    )
    assert outcome.verdicts == {"test_one": "works"}
    assert outcome.result.ret == state.EXIT_CANNOT_RUN
    lines = outcome.result.stdout.str().splitlines()
    (error,) = [line for line in lines if "File too large" in line]
    assert error.startswith("error: cannot write the record")
    assert len(error) < 1000
    assert not [line for line in lines if "Exit:" in line]


def test_a_clean_up_that_fails_is_said_once_and_fails_the_session(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Run) -> None:
        raise EngineError("the engine does not remove network x")

    monkeypatch.setattr(Run, "close", refuse)
    outcome = ask("def test_it(mode): pass")
    assert outcome.verdicts == {"test_it": "works"}
    assert outcome.result.ret == 1
    said = str(outcome.result.stderr)
    assert said.count("cannot clean up: the engine does not remove network x") == 1
    assert "org.libvirt-conformance.run=run" in said


def test_a_second_ctrl_c_while_cleaning_up_is_said(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "close", interrupted)
    outcome = ask("def test_one(mode): pass\ndef test_two(mode): raise KeyboardInterrupt")
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    assert "cannot clean up: interrupted" in str(outcome.result.stderr)


def test_ctrl_c_in_a_fixtures_end_still_cleans_up(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Run, "close", lambda self: closed.append(self.id))
    outcome = ask(
        "@pytest.fixture(scope='session')\ndef late():\n    yield\n    raise KeyboardInterrupt\n"
        "def test_it(mode, late): pass"
    )
    assert outcome.verdicts == {"test_it": "works"}
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    assert closed == ["run"]


def test_what_ends_a_guest_or_the_container_is_asked_last(ask: Ask) -> None:
    outcome = ask(
        "@pytest.mark.ends('container')\ndef test_a(mode): pass\n"
        "@pytest.mark.ends('guest')\ndef test_b(mode): pass\n"
        "def test_c(mode): pass"
    )
    assert [record["check"] for record in outcome.records] == ["test_c", "test_b", "test_a"]


# ------------------------------------------------------------------------------------ what is required


def test_what_is_required_and_decided_is_well(ask: Ask) -> None:
    required = ["--require", "api", "--require", "unprivileged", "--require", "cgroup2"]
    outcome = ask("def test_it(mode): pass", *required)
    assert outcome.result.ret == 0
    assert "required, but missing" not in str(outcome.result.stdout)


def test_a_known_failure_is_decided(ask: Ask) -> None:
    outcome = ask(f"def test_it(mode): raise {MACVTAP}", "--require", "macvlan", marker="macvlan")
    assert outcome.result.ret == 0


@pytest.mark.parametrize(
    ("body", "required", "told"),
    [
        ("raise Unsupported('no KVM')", "api", "api in unprivileged: unsupported: no KVM"),
        ("pytest.skip('no medium')", "api", "api in unprivileged: not run: *no medium*"),
        ("pass", "kvm", "kvm in unprivileged: not run: it was not selected"),
        ("pass", "install_windows", "install-windows in unprivileged: not run: needs a Windows medium*"),
        ("raise Unsupported('no capability')", "unprivileged", "mode unprivileged: unsupported: no capability"),
        ("pass", "privileged", "mode privileged: no feature was selected in it"),
        ("pass", "apparmor", "apparmor: the host's engine does not report it"),
        ("pass", "cgroup1", "cgroup1: the host's engine does not report it"),
    ],
)
def test_what_is_required_and_not_there_fails_the_session(ask: Ask, body: str, required: str, told: str) -> None:
    outcome = ask(f"def test_it(mode): {body}", "--require", required)
    assert outcome.result.ret == pytest.ExitCode.TESTS_FAILED
    outcome.result.stdout.fnmatch_lines([f"required, but missing: {told}"])


def test_what_is_required_has_to_be_there_in_each_mode(ask: Ask) -> None:
    body = "def test_it(mode):\n    if mode.id == 'privileged': raise Unsupported('no capability')"
    outcome = ask(body, "--mode", "privileged", "--require", "api")
    assert outcome.result.ret == pytest.ExitCode.TESTS_FAILED
    outcome.result.stdout.fnmatch_lines(["required, but missing: api in privileged: unsupported: no capability"])
    assert "api in unprivileged:" not in str(outcome.result.stdout)


def test_a_part_of_what_is_required_is_not_enough(ask: Ask) -> None:
    outcome = ask("def test_one(mode): pass\ndef test_two(mode): pass", "-k", "one", "--require", "api")
    assert outcome.result.ret == pytest.ExitCode.TESTS_FAILED
    outcome.result.stdout.fnmatch_lines(["required, *api in unprivileged: not run: *test_two*"])


def test_after_ctrl_c_nothing_more_is_said_of_what_is_required(ask: Ask) -> None:
    outcome = ask("def test_it(mode): raise KeyboardInterrupt", "--require", "api")
    assert outcome.result.ret == pytest.ExitCode.INTERRUPTED
    assert "required, but missing" not in str(outcome.result.stdout)


def test_nothing_unknown_can_be_required(ask: Ask) -> None:
    outcome = ask("def test_it(mode): pass", "--require", "kvmm")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    outcome.result.stderr.fnmatch_lines(["*'kvmm'*", "*secure_boot*unprivileged*apparmor*"])
    assert not outcome.records


# ------------------------------------------------------------------------------------- a part of a run


@pytest.fixture
def part() -> Callable[[str], tuple[io.StringIO, list[object]]]:
    """Makes a part of a run: where it says what it waits for, and the plugins that tell pytest of it."""

    def part(mode: str) -> tuple[io.StringIO, list[object]]:
        progress = io.StringIO()
        return progress, [WorkerPlugin(state.WorkerContext("whole", (mode,), progress))]

    return part


SAYS = """
@pytest.fixture
def say(request):
    from conformance.plugin.state import SESSION
    return request.config.stash[SESSION].progress
def test_it(mode, say): say(f"looking into {mode.id}")
"""


def test_a_part_asks_its_mode_of_the_chosen_ones_and_is_recorded_as_the_whole(
    ask: Ask, part: Callable[[str], tuple[io.StringIO, list[object]]]
) -> None:
    progress, plugins = part("privileged")
    outcome = ask(SAYS, "--mode", "privileged", plugins=plugins)
    (record,) = outcome.records
    assert (record["mode"], record["run"]) == ("privileged", "whole")
    events = [read(line) for line in progress.getvalue().splitlines()]
    assert [event.step for event in events if event.step] == ["looking into privileged"]
    assert [event.standing.done for event in events if event.standing] == [0, 1]
    assert [event.line for event in events if event.line] == ["privileged: 1 checks in 1 s: 1 works"]
    said = str(outcome.result.stdout)
    assert "looking into" not in said
    assert "libvirt API over TCP" not in said, "the table is drawn by who has all of it"


def test_a_quiet_part_reports_to_its_leader_and_prints_nothing(
    ask: Ask, part: Callable[[str], tuple[io.StringIO, list[object]]]
) -> None:
    progress, plugins = part("unprivileged")
    outcome = ask(SAYS, "-qq", plugins=plugins)
    assert outcome.verdicts == {"test_it": "works"}
    assert "looking into unprivileged" in progress.getvalue()
    assert not str(outcome.result.stdout).strip()


def test_what_is_required_of_the_whole_is_not_of_a_part(
    ask: Ask, part: Callable[[str], tuple[io.StringIO, list[object]]]
) -> None:
    _, plugins = part("unprivileged")
    outcome = ask("def test_it(mode): pass", "--require", "kvm", "--require", "privileged", plugins=plugins)
    assert outcome.result.ret == 0
    assert "required, but missing" not in str(outcome.result.stdout)


def test_a_part_is_ended_by_sigterm_as_by_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest, signal\n"
        "@pytest.fixture\ndef thing():\n    yield\n    print('cleaned up')\n"
        "def test_it(thing): signal.raise_signal(signal.SIGTERM)\n"
    )
    command = [sys.executable, "-m", "conformance.workers.worker", "whole", "least", str(tmp_path / "progress"), "-s"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    assert "cleaned up" in done.stdout


# ------------------------------------------------------------------------------------- another image's contract

THEIRS = """
schema = 1
extends = true
promises = ["api"]
[image]
port = 16000
path = "/system"
"""


def test_what_an_image_does_not_promise_is_not_asked(ask: Ask, tmp_path: Path) -> None:
    contract = tmp_path / "theirs.toml"
    contract.write_text(THEIRS)
    body = "def test_it(mode): pass\n@pytest.mark.nat\ndef test_other(mode): pass"
    outcome = ask(body, f"--contract={contract}")
    assert outcome.verdicts == {"test_it": "works"}
    outcome.result.assert_outcomes(passed=1, deselected=1)
    assert "NAT network" not in str(outcome.result.stdout)
    assert ask(body, f"--contract={contract}", "-m", "nat").result.ret == state.EXIT_NOTHING_DECIDED


def test_what_an_image_does_not_promise_cannot_be_required(ask: Ask, tmp_path: Path) -> None:
    contract = tmp_path / "theirs.toml"
    contract.write_text(THEIRS)
    outcome = ask("def test_it(mode): pass", f"--contract={contract}", "--require", "nat")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR


def test_what_only_ours_has_is_asked_only_of_images_that_have_it(ask: Ask, tmp_path: Path) -> None:
    body = """
@pytest.mark.extras
def test_extra(mode): pass
@pytest.mark.foreseen
def test_foreseen(mode): pass
def test_other(mode): pass
"""
    assert set(ask(body).verdicts) == {"test_extra", "test_other"}, "of nothing that will fail there the image knows"
    assert set(ask(body, mode="required-only").verdicts) == {"test_extra", "test_foreseen", "test_other"}


# ------------------------------------------------------------------------------------- beside other plugins

FAKE = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--image", help="a picture")

@pytest.fixture
def container(pytestconfig):
    return "theirs: " + pytestconfig.getoption("--image")

@pytest.fixture
def run():
    return "theirs"
"""

THEIRS_BESIDE = """
import pytest

@pytest.mark.parametrize("mode", ["fast"])
def test_theirs(container, run, mode):
    assert (container, run, mode) == ("theirs: cat.png", "theirs", "fast")
"""

OURS_BESIDE = """
import pytest
pytestmark = pytest.mark.api

class Running:
    running = True
    def revive(self): pass
    mark = revive

@pytest.fixture(scope="session")
def _container():
    return Running()

def test_ours(container, run, mode, pytestconfig):
    assert (type(container), run.id, mode.id) == (Running, "run", "unprivileged")
    assert pytestconfig.getoption("--libvirt-image") == "libvirt:2"
"""


def test_another_plugin_may_have_the_same_option_and_fixtures(ask: Ask, pytester: pytest.Pytester) -> None:
    conftest = (pytester.path / "conftest.py").read_text()
    (pytester.path / "conftest.py").unlink()
    pytester.makepyfile(
        **{
            "fake": FAKE,
            "theirs/test_theirs": THEIRS_BESIDE,
            "ours/test_ours": OURS_BESIDE,
            "ours/conftest": conftest,
        }
    )
    pytester.syspathinsert()
    words = ["--image", "cat.png", "--libvirt-image", "libvirt:2", "-p", "fake", "--import-mode=importlib"]
    outcome = ask("", *words, "ours", "theirs")
    outcome.result.assert_outcomes(passed=2)
    assert outcome.verdicts == {"test_ours": "works"}


@pytest.mark.parametrize("marker", ["api", "nat"])
def test_a_features_marker_elsewhere_is_another_projects(ask: Ask, pytester: pytest.Pytester, marker: str) -> None:
    pytester.makepyfile(**{"ours/test_ours": "", "ours/conftest": (pytester.path / "conftest.py").read_text()})
    (pytester.path / "conftest.py").unlink()
    body = "@pytest.fixture\ndef mode(): return 'theirs'\ndef test_it(mode): assert mode == 'theirs'"
    outcome = ask(body, ".", marker=marker)
    outcome.result.assert_outcomes(passed=1)
    assert not outcome.records


def test_ini_keys_are_defaults_of_options(ask: Ask, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(
        "[tool.pytest]\nlibvirt_host_fact = ['rack=7']\nlibvirt_accel = 'tcg'\nlibvirt_contract = 'theirs.toml'\n"
        "libvirt_pci_device = ['00:04.0']\nlibvirt_mode = ['least']\n"
    )
    (pytester.path / "theirs.toml").write_text(THEIRS)
    body = """
def test_it(mode, pytestconfig, evidence):
    from conformance.plugin.state import OPTIONS
    options = pytestconfig.stash[OPTIONS]
    evidence["seen"] = [dict(options.host_facts), options.accel, str(options.contract_file), options.pci_devices]
"""
    outcome = ask(body, "--accel", "kvm")
    (record,) = outcome.records
    assert record["mode"] == "unprivileged", "the command line counts"
    assert record["evidence"]["seen"] == [{"rack": "7"}, "kvm", str(pytester.path / "theirs.toml"), ["0000:00:04.0"]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("libvirt_accel = 'fast'", "'fast'"),
        ("libvirt_host_fact = ['rack']", "'rack' is not KEY"),
        ("libvirt_ready_seconds = 'soon'", "'soon' is not a positive number of seconds"),
    ],
)
def test_a_bad_ini_key_is_a_usage_error(ask: Ask, pytester: pytest.Pytester, line: str, told: str) -> None:
    pytester.makepyprojecttoml(f"[tool.pytest]\n{line}\n")
    outcome = ask("def test_it(mode): pass")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in str(outcome.result.stderr)
    assert line.partition(" ")[0] in str(outcome.result.stderr)


class Xdist:
    """Has the option of pytest-xdist that ``-n`` sets as well."""

    @staticmethod
    def pytest_addoption(parser: pytest.Parser) -> None:
        parser.addoption("--dist", default="no")


@pytest.mark.parametrize(("how", "status"), [("load", pytest.ExitCode.USAGE_ERROR), ("no", pytest.ExitCode.OK)])
def test_tests_that_another_plugin_distributes_are_a_usage_error(ask: Ask, how: str, status: pytest.ExitCode) -> None:
    outcome = ask("def test_it(mode): pass", f"--dist={how}", plugins=[Xdist()])
    assert outcome.result.ret == status
    assert ("conformance matrix -n N" in str(outcome.result.stderr)) == (how == "load")


@pytest.mark.parametrize("word", ["-5", "0", "nan", "inf", "soon"])
def test_a_deadline_that_no_image_can_meet_is_a_usage_error(ask: Ask, word: str) -> None:
    outcome = ask("def test_it(mode): pass", f"--ready-seconds={word}")
    assert outcome.result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"'{word}' is not a positive number of seconds" in str(outcome.result.stderr)


@pytest.mark.parametrize(("options", "seconds"), [((), [600]), (("--timeout", "50"), [])])
def test_each_check_has_a_deadline(ask: Ask, options: tuple[str, ...], seconds: list[int]) -> None:
    body = """
def test_it(mode, request, evidence):
    evidence["seconds"] = [marker.args[0] for marker in request.node.iter_markers("timeout")]
"""
    assert ask(body, *options).records[0]["evidence"]["seconds"] == seconds
