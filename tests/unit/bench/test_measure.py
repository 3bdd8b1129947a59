import importlib
import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest
from docker.api import build as docker_build
from docker.api.build import BuildApiMixin
from docker.api.container import ContainerApiMixin
from typer.testing import CliRunner

from conformance.bench import accounting, container_cost, lab_cost, matrix_cost, result, table
from conformance.bench import measure as bench
from conformance.bench.accounting import Account, kind_of
from conformance.bench.result import Measurement, Result
from conformance.bench.targets import TARGETS, Target
from conformance.cli import main
from conformance.container.container import Container
from conformance.engine import image
from conformance.errors import HarnessError
from conformance.guests import peer_network
from conformance.guests.domain_xml import domain_xml
from conformance.guests.running import RunningGuest
from conformance.guests.session import GuestSession
from conformance.guests.spec import GuestSpec
from conformance.host.kvm import HostKvm
from conformance.lab import definition
from conformance.media import probe as probe_media
from conformance.media import store
from conformance.model.record import Host, Image, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.util import paths, process, wait
from conformance.util.progress import Progress

MAIN = ("__main__", "<module>")
TEST = ("test_iso", "test_a_guest_boots_from_a_cdrom")


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """Makes a result; what is not given is plausible."""

    def make(**changes: Any) -> Result:
        given: dict[str, Any] = {
            "run": "20260101T000000Z-abcdef-1",
            "host": Host(name="docker-1", fingerprint={"kernel": "6.1", "engine": "docker 26.1", "cpus": 2}),
            "image": Image(tag="libvirt:1", id="sha256:0", base="debian:trixie-slim"),
            "load": (0.1, 0.2, 0.3),
            "accel": "tcg",
            "measurements": (Measurement(id="container-start", values=[1.2, 1.0, 1.4]),),
        }
        return Result(**(given | changes))

    return make


# ------------------------------------------------------------------------------------- accounting


WAIT = accounting.call(GuestSession.wait)
ENSURE_IMAGE = accounting.call(image.ensure_image)


@pytest.mark.parametrize(
    ("stack", "kind"),
    [
        ([], "rest"),
        ([MAIN, TEST], "rest"),
        ([MAIN, TEST, accounting.call(RunningGuest.wait_for_end), WAIT], "guest"),
        ([MAIN, accounting.call(domain_xml)], "rest"),
        ([MAIN, WAIT, accounting.call(libvirt.virDomain.state)], "guest"),
        ([MAIN, TEST, accounting.call(libvirt.virConnect.lookupByName)], "container"),
        ([MAIN, accounting.call(Container.stop), accounting.call(ContainerApiMixin.stop)], "container"),
        ([MAIN, accounting.call(peer_network.PeerNetwork.start), accounting.call(ContainerApiMixin.start)], "engine"),
        ([MAIN, ENSURE_IMAGE, accounting.call(BuildApiMixin.build)], "build"),
        ([MAIN, accounting.call(probe_media.ensure), accounting.call(store.intact)], "build"),
        ([MAIN, (docker_build.__name__, "<module>")], "engine"),
        ([MAIN, ("dockerfile", "parse")], "rest"),
    ],
)
def test_the_stack_says_what_is_waited_for(stack: list[accounting.Call], kind: str) -> None:
    assert kind_of(stack) == kind


class Seen(list[str]):
    """Waits once, and notes what the stack says meanwhile."""

    def wait(self) -> None:
        wait.wait_for("something to be seen", self._look, seconds=1)

    def _look(self) -> bool:
        self.append(kind_of(list(accounting._calls(sys._getframe()))[::-1]))
        return True


def test_who_waits_waits_for_a_guest() -> None:
    seen = Seen()
    seen.wait()
    assert seen == ["guest"]


def test_an_import_is_the_harness_whatever_it_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    monkeypatch.setitem(sys.modules, "waiting_in_an_import", SimpleNamespace(wait=seen.wait))
    (tmp_path / "imported_for_the_account.py").write_text("import waiting_in_an_import\nwaiting_in_an_import.wait()\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("imported_for_the_account")
    assert seen == ["rest"]


def test_the_account_knows_the_first_container_and_whom_to_blame() -> None:
    account = Account()
    account.add([MAIN, ENSURE_IMAGE], now=2.0, seconds=2.0)
    account.add([MAIN, TEST, ("json", "loads")], now=3.0, seconds=1.0)
    for now in (4.0, 5.0):
        account.add([MAIN, accounting.call(Container.start)], now=now, seconds=1.0)
    assert account.first_container == 4.0
    assert account.before_first == {"build": 2.0, "rest": 1.0}
    assert account.seconds == {"build": 2.0, "rest": 1.0, "container": 2.0}
    assert account.rest == {"test_iso.test_a_guest_boots_from_a_cdrom": 1.0}


def test_memory_is_of_this_process() -> None:
    assert 10e6 < process.peak_memory(os.getpid()) < 10e9


def test_the_plugin_writes_its_account(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import time\ndef test_something():\n    time.sleep(0.1)\n")
    file = pytester.path / "account"
    pytester.runpytest_subprocess("-p", "conformance.bench.accounting", "--accounting", file, "--collect-only")
    assert not file.exists(), "nothing was run"
    pytester.runpytest_subprocess("-p", "conformance.bench.accounting", "--accounting", file).assert_outcomes(passed=1)
    account = json.loads(file.read_text())
    assert account["seconds"]["rest"] > 0
    assert account["ended"] > account["began"]
    assert account["domains"] == {}


def test_every_start_of_a_domain_is_counted_whoever_started_it() -> None:
    start = "2026-11-24 07:00:00.000+0000: starting up libvirt version: 11.3.0, package: 3, qemu version: 10.0.13\n"
    logs = {
        "qemu/once.log": f"{start}LC_ALL=C \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=once\n",
        "qemu/again.log": f"{start}2026-11-24 07:00:09.000+0000: shutting down, reason=destroyed\n{start}",
        "qemu/again.log.0": start,
        "qemu/never.log": "2026-11-24 07:00:00.000+0000: shutting down, reason=failed\n",
        "qemu/once.console": start,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in logs.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    assert accounting.read_starts(buffer.getvalue()) == {"once": 1, "again": 3}


def test_cost_counts_what_was_not_seen_as_the_harness(make_record: Callable[..., Record]) -> None:
    account = {
        "began": 101.0,
        "seconds": {"guest": 60.0, "engine": 20.0, "rest": 8.0},
        "rest": {"conformance.plugin.collection.prepare": 8.0},
        "first_container": 104.0,
        "before_first": {"engine": 2.0},
        "domains": {"probe-1": 1, "probe-2": 2},
        "cpu_seconds": 3.0,
        "memory_mb": 90.0,
    }
    records = [
        make_record(feature="iso"),
        make_record(feature="nat"),
        make_record(feature="nat", verdict=Verdict.KNOWN_FAILURE),
        make_record(feature="kvm", verdict=Verdict.UNSUPPORTED),
        make_record(feature="uefi", verdict=Verdict.NOT_RUN),
    ]
    cost = matrix_cost.cost(account, began=100.0, wall=100.0, records=records)
    assert cost["share"] == 20.0
    assert cost["seconds"] == {"guest": 60.0, "engine": 20.0, "rest": 20.0}
    assert cost["first"] == {"seconds": 4.0, "by_kind": {"start-up": 1.0, "engine": 2.0}}
    assert (cost["domain_starts"], cost["features"], cost["domains_per_feature"]) == (3, 2, 1.5)


# --------------------------------------------------------------------------------- which parts


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes which parts are measured, on an engine that is only told of."""
    done: list[str] = []

    def part(name: str) -> Callable[..., list[Measurement]]:
        def measure(*_: object) -> list[Measurement]:
            done.append(name)
            return [Measurement(id=name, values=[1])]

        return measure

    run = SimpleNamespace(
        id="20260101T000000Z-abcdef-1",
        kvm=HostKvm(True, "it boots"),
        host=Host(name="docker-1", fingerprint={"cpus": 2}),
        image=Image(tag="libvirt:1", id="sha256:0", base="debian:trixie-slim"),
        close=lambda: done.append("closed"),
    )
    monkeypatch.setattr(bench, "prepare", lambda *_, **__: run)
    monkeypatch.setattr(bench, "containers", lambda *_: (part("containers")(), "tcg"))
    monkeypatch.setattr(bench, "matrices_cost", part("matrices"))
    monkeypatch.setattr(bench, "smoke", lambda *_: part("smoke")()[0])
    monkeypatch.setattr(bench, "side_by_side", lambda *_: part("parallel")()[0])
    monkeypatch.setattr(bench, "_lab", part("lab"))
    monkeypatch.setattr(bench, "_lab_build", lambda *_: part("build")()[0])
    monkeypatch.setattr(bench, "_lab_boots", lambda *_: part("boots")()[0])
    monkeypatch.setattr(bench, "privilege_starts", lambda _: [])  # of what is recorded, whatever that is
    return done


@pytest.mark.parametrize(
    ("options", "expected", "accel"),
    [
        ({}, ["containers", "closed", "matrices", "smoke", "parallel", "lab"], "tcg"),
        ({"matrices": 0}, ["containers", "closed", "matrices", "smoke", "lab"], "tcg"),
        ({"only": "smoke"}, ["closed", "smoke"], "kvm"),
        ({"only": "parallel", "matrices": 2}, ["closed", "parallel"], "kvm"),
        ({"only": "engine"}, ["containers", "closed", "matrices"], "tcg"),
        ({"only": "lab"}, ["closed", "lab"], "kvm"),
        ({"only": "lab", "lab_build": True}, ["closed", "lab", "build"], "kvm"),
        ({"only": "extra", "lab_build": True, "lab_boots": 50}, ["closed", "build", "boots"], "kvm"),
    ],
)
def test_what_is_asked_for_is_measured(parts: list[str], options: Any, expected: list[str], accel: str) -> None:
    result = bench.measure(Progress(quiet=True), repeat=1, **({"matrices": 1} | options))
    assert parts == expected
    assert [one.id for one in result.measurements] == [one for one in expected if one != "closed"]
    assert result.accel == accel


Asks = Callable[..., None]


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., Record]) -> Asks:
    """Lets ./run matrix end with a status and record verdicts, another one side by side if that is given."""

    def asks(status: int = 0, *, beside: Verdict = Verdict.WORKS) -> None:
        def command(words: list[str], log: Path, _seconds: float, _environment: object) -> int:
            log.write_text("what it wrote")
            verdict = beside if "-n" in words else Verdict.WORKS
            folder = Path(words[-1].removeprefix("--results="))
            Recorder(folder, "docker-1", "1").append(make_record(verdict=verdict))
            return status

        monkeypatch.setattr(matrix_cost, "command", command)

    return asks


def test_two_modes_are_measured_one_after_the_other_and_side_by_side(matrices: Asks, tmp_path: Path) -> None:
    matrices(status=1)
    measured = matrix_cost.side_by_side(tmp_path, lambda _: None, 2)
    assert measured.id in {target.id for target in TARGETS}
    assert len(measured.values) == 2
    assert {how: len(seconds) for how, seconds in measured.detail["seconds"].items()} == {
        "one after the other": 2,
        "side by side": 2,
    }


def test_side_by_side_nothing_may_be_said_that_is_not_said_one_after_the_other(matrices: Asks, tmp_path: Path) -> None:
    matrices(beside=Verdict.FAILS)
    with pytest.raises(HarnessError, match=r"other verdicts than one after the other: .*'fails'.*'works'"):
        matrix_cost.side_by_side(tmp_path, lambda _: None, 1)


def test_a_matrix_that_does_not_get_to_its_end_is_not_measured(matrices: Asks, tmp_path: Path) -> None:
    matrices(status=6)
    with pytest.raises(HarnessError, match=r"did not finish \(status 6\)(.|\n)*what it wrote"):
        matrix_cost.side_by_side(tmp_path, lambda _: None, 1)


@pytest.mark.parametrize("status", [0, 1])
def test_only_smoke_runs_that_pass_are_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int) -> None:
    def command(words: list[str], log: Path, *_: object) -> int:
        log.write_text(f"the end of {words}")
        return status

    monkeypatch.setattr(matrix_cost, "command", command)
    with pytest.raises(HarnessError, match=r"status 1(.|\n)*the end of \['smoke'\]") if status else nullcontext():
        measured = matrix_cost.smoke(tmp_path, lambda _: None, 2)
        assert measured.id in {target.id for target in TARGETS}
        assert len(measured.values) == 2


def test_a_lab_is_measured_beside_its_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    used: list[tuple[Path, Any]] = []

    def measure(host: definition.Host, _progress: object, *, repeat: int, use: Callable[[str], None]) -> lab_cost.Cost:
        use("unix:///lab.sock")
        return lab_cost.Cost("emulation", starts=[9.0] * repeat, cold=40.0, idle=5.5, disk=1.6, memory=3.2)

    def matrix(results: Path, options: object, environment: object) -> None:
        used.append((results, environment))

    monkeypatch.setattr(lab_cost, "measure", measure)
    monkeypatch.setattr(bench, "matrix", matrix)
    measured = bench._lab(tmp_path, lambda _: None, 2)
    assert used == [(tmp_path / "lab", {"DOCKER_HOST": "unix:///lab.sock"})]
    assert {one.id: one.values for one in measured} == {
        "lab-start": [9.0, 9.0],
        "lab-cold": [40.0],
        "lab-idle": [5.5],
        "lab-disk": [1.6],
        "lab-memory": [3.2],
    }
    assert measured[0].detail == {"host": "debian-13", "outer": "emulation"}
    assert {one.id for one in measured} | {"lab-build", "lab-boots"} == {
        target.id for target in TARGETS if target.id.startswith("lab-")
    }


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A project whose ``./run`` is a test's, and a cache with downloads."""
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / "one").write_text("whole")
    return tmp_path


def write_run(project: Path, script: str) -> None:
    (project / "run").write_text(f"#!/bin/sh\n{script}\n")
    (project / "run").chmod(0o755)


def test_a_first_build_has_a_cache_of_its_own_beside_the_downloads(project: Path) -> None:
    write_run(
        project,
        'echo "$*" >"$0.called"; cat "$CONFORMANCE_CACHE"/downloads/one >"$0.seen"; touch "$CONFORMANCE_CACHE"/made',
    )
    measured = bench._lab_build(project, lambda _: None)
    assert measured.id == "lab-build"
    assert (project / "run.called").read_text() == "lab rebuild\n"
    assert (project / "run.seen").read_text() == "whole"
    assert [left.name for left in (project / "cache").iterdir()] == ["downloads"]
    assert (project / "cache" / "downloads" / "one").exists()


def test_a_first_build_that_fails_says_why(project: Path) -> None:
    write_run(project, "echo no compiler; exit 6")
    with pytest.raises(HarnessError, match="could not be built") as caught:
        bench._lab_build(project, lambda _: None)
    assert "no compiler" in caught.value.remedy
    assert [left.name for left in (project / "cache").iterdir()] == ["downloads"]


def test_a_command_that_does_not_end_is_interrupted(project: Path, ctrl_c_is_heard: None) -> None:
    write_run(project, "trap 'echo cleaned; exit 130' INT; echo begun; while :; do sleep 0.05; done")
    with pytest.raises(HarnessError, match=r"\./run lab took more than 0\.5 s") as caught:
        matrix_cost.command(["lab"], project / "log", 0.5, {})
    assert caught.value.remedy == "begun\ncleaned\n"


# -------------------------------------------------------------------------------------- the guest


def test_the_bare_guest_is_the_same_guest() -> None:
    shape = GuestSpec("bios", "tcg", "pool", kernel="/k", initrd="/i", disk="d.raw")
    words = " ".join(container_cost.bare_qemu(shape, {"nonce": "1f", "ask": "disk"}))
    xml = domain_xml("name", shape, "", {"nonce": "1f", "ask": "disk"})
    for order in ("probe.nonce=1f", "probe.ask=disk"):
        assert f"value={order}" in words
        assert f"<entry>{order}</entry>" in xml
    assert "-machine q35 -accel tcg" in words
    assert "-cpu" not in words
    assert "<cpu" not in xml
    assert "-cpu host" in " ".join(container_cost.bare_qemu(GuestSpec("bios", "kvm", "pool"), {}))


# ----------------------------------------------------------------------------- results and tables


def test_the_newest_result_counts(make_result: Callable[..., Result], tmp_path: Path) -> None:
    assert result.read(tmp_path) == []
    old, new = make_result(run="20260101T000000Z-z-1"), make_result(run="20260202T000000Z-a-1")
    for one in (new, old):
        one.write(tmp_path)
    assert result.read(tmp_path) == [new, old]


def test_what_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(HarnessError, match=r"odd\.json is not a result"):
        result.read(tmp_path)


def test_a_result_that_cannot_be_written_is_an_error(make_result: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot write"):
        make_result().write(tmp_path / "file")


def test_a_target_is_met_or_missed_by_so_much() -> None:
    target = Target(id="x", what="X", most=1.5, unit="s", why="the disk is slow")
    assert table.verdict(target, Measurement(id="x", values=[1.5])) == "yes"
    assert table.verdict(target, Measurement(id="x", values=[2])) == "missed by 0.5 s: the disk is slow"


def test_a_row_of_fifty_is_not_met_by_three() -> None:
    target = Target(id="x", what="X", most=60, unit="s", count=50)
    assert table.verdict(target, Measurement(id="x", values=[30] * 50)) == "yes"
    assert table.verdict(target, Measurement(id="x", values=[70] * 50)) == "missed by 10 s"
    assert table.verdict(target, Measurement(id="x", values=[30] * 3)) == "missed: 3 of 50"


def test_the_table_shows_median_and_spread(make_result: Callable[..., Result]) -> None:
    text = table.performance([make_result()])
    assert "| Container start to libvirt answering | 1.2 s (1..1.4, 3) | 1.5 s | yes |" in text
    assert "| Memory of the harness at its peak | not measured | 150 MB |  |" in text
    assert "docker 26.1" in text


def test_what_the_newest_did_not_measure_an_earlier_one_of_the_same_host_has(
    make_result: Callable[..., Result],
) -> None:
    def of(run: str, host: str, **values: float) -> Result:
        measurements = tuple(Measurement(id=name.replace("_", "-"), values=[value]) for name, value in values.items())
        return make_result(
            run=run,
            host=Host(name=host, fingerprint={"kernel": run, "cpus": 2}),
            time=f"2026-01-0{run}T00:00:00Z",
            measurements=measurements,
        )

    text = table.performance(
        [
            of("4", "here", lab_idle=4),
            of("3", "elsewhere", container_start=3),
            of("2", "here", container_start=2, domain_start=0.2),
            of("1", "here", container_start=1, domain_start=0.1, memory=90),
        ]
    )
    assert "Measured 2026-01-02" in text, "what most of the rows are from"
    assert "| Container start to libvirt answering | 2 s (2..2, 1) |" in text
    assert "| Domain start: API call to running | 0.2 s (0.2..0.2, 1) |" in text
    assert "| 90 MB (90..90, 1; 2026-01-01, load 0.1 before) |" in text
    assert "| 4 % (4..4, 1; 2026-01-04, load 0.1 before) |" in text


def test_two_machines_of_one_name_are_not_mixed(make_result: Callable[..., Result]) -> None:
    def of(cpus: int, value: float) -> Result:
        host = Host(name="docker-1", fingerprint={"cpus": cpus})
        return make_result(host=host, measurements=(Measurement(id="memory", values=[value]),))

    text = table.performance([of(2, 90), of(4, 80)])
    assert "docker-1 (architecture unknown, processor unknown, 2 CPUs)" in text
    assert "80 MB" not in text
    idle = (Measurement(id="lab-idle", values=[4]),)
    text = table.performance([of(2, 90), of(4, 80).model_copy(update={"measurements": idle})])
    assert "| not measured | 10 % |" in text, "the other machine's is no earlier one of this machine"


def test_without_a_result_the_document_says_so() -> None:
    text = table.render("<!-- generated: performance -->\n<!-- end of generated -->\n", [])
    assert "Nothing has been measured yet." in text


def test_the_document_is_up_to_date() -> None:
    text = paths.PERFORMANCE.read_text(encoding="utf-8")
    assert table.render(text, result.read(paths.BENCH)) == text


def test_render_measures_nothing(make_result: Callable[..., Result], tmp_path: Path) -> None:
    make_result().write(tmp_path)
    document = tmp_path / "performance.md"
    document.write_text("<!-- generated: performance -->\n<!-- end of generated -->\n")
    done = CliRunner().invoke(main.app, ["bench", "--render", "--results", str(tmp_path), "--document", str(document)])
    assert done.exit_code == 0, done.output
    assert "libvirt answering" in document.read_text()
