"""``conformance smoke``, without an engine."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from conformance.cli import documents, main, smoke, status
from conformance.errors import ContractError
from conformance.lab import definition
from conformance.model import contract as contracts
from conformance.model.record import Host, Image, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.run import preparation
from conformance.util import paths
from conformance.workers import sessions
from conformance.workers.hosts import EngineTarget

Make = Callable[..., Record]
Smoke = Callable[..., Result]

OWN_IMAGE = "libvirt-conformance:latest"

ENGINE = "unix:///here.sock"


@pytest.fixture
def prepared() -> dict[str, Any]:
    """The arguments of the run's preparation, and pytest's words."""
    return {}


@pytest.fixture
def run_smoke(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_record: Make, prepared: dict[str, Any]
) -> Iterator[Smoke]:
    """Run the command on a simulated host, whose checks have some verdicts."""

    def run_smoke(
        *words: str,
        verdicts: Sequence[Verdict] = (Verdict.WORKS,),
        security: str = "seccomp",
        kvm: bool = True,
        interrupted: bool = False,
    ) -> Result:
        def prepare(claims: contracts.Contract, _progress: object, **arguments: Any) -> SimpleNamespace:
            prepared.update(arguments)
            return SimpleNamespace(
                contract=claims,
                host=Host(name="machine", fingerprint={"security": security}),
                host_name="machine",
                image=Image(tag=arguments["tag"] or OWN_IMAGE, id="sha256:0", base="debian"),
                kvm=SimpleNamespace(usable=kvm),
                recorder=Recorder(tmp_path, "machine", "night"),
                close=lambda: prepared.update(closed=True),
            )

        def run_within(run: Any, arguments: Sequence[str], **_: object) -> list[Record]:
            prepared["words"] = [*arguments]
            records = [make_record(feature="api", check=str(n), verdict=one) for n, one in enumerate(verdicts)]
            for one in records:
                run.recorder.append(one)
            if interrupted:
                raise KeyboardInterrupt
            return records

        monkeypatch.setattr(preparation, "prepare", prepare)
        monkeypatch.setattr(sessions, "run_within", run_within)
        return CliRunner().invoke(main.app, ["smoke", *words], catch_exceptions=False)

    @contextlib.contextmanager
    def engine(host: definition.Host | None) -> Iterator[EngineTarget]:
        yield EngineTarget(f"unix:///{host.name}.sock", host.name) if host else EngineTarget(ENGINE)

    monkeypatch.setattr(smoke, "engine_target", engine)
    monkeypatch.setattr(documents, "write_tables", None)
    monkeypatch.setenv("DOCKER_HOST", ENGINE)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(Path.cwd())
    yield run_smoke
    if prepared:
        assert prepared["closed"]


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict.WORKS, Verdict.KNOWN_FAILURE], 0),
        ([Verdict.WORKS, Verdict.FAILS], 1),
        ([Verdict.WORKS, Verdict.ERROR], 1),
        ([Verdict.UNSUPPORTED], 5),
        ([Verdict.UNSUPPORTED, Verdict.WORKS], 0),
    ],
)
def test_the_status_is_the_matrixs(run_smoke: Smoke, verdicts: list[Verdict], status: int) -> None:
    result = run_smoke(verdicts=verdicts)
    assert result.exit_code == status
    assert ("docker run" in result.stdout) == (status == 0)
    assert (f"{paths.COMMAND} doctor" in result.stdout) == (status != 0)


@pytest.mark.parametrize(
    ("security", "mode"),
    [("apparmor, seccomp", "least-apparmor"), ("seccomp, selinux", "unprivileged-unlabelled"), ("none", "least")],
)
def test_the_mode_is_the_one_recommended_for_the_host(
    run_smoke: Smoke, prepared: dict[str, Any], security: str, mode: str
) -> None:
    result = run_smoke(security=security)
    assert prepared["words"][-3:-1] == ["--libvirt-profile=smoke", f"--libvirt-mode={mode}"]
    assert prepared["minimise_boots"]
    assert f"{paths.COMMAND} matrix --mode {mode}" in result.stdout
    assert ("apparmor_parser --replace" in result.stdout) == (mode == "least-apparmor")


def test_the_user_chooses_mode_image_and_host(run_smoke: Smoke, prepared: dict[str, Any]) -> None:
    result = run_smoke("--mode", "privileged", "--image", "any:1", "--host", "lab:debian-12")
    assert "--libvirt-mode=privileged" in prepared["words"]
    assert (prepared["tag"], prepared["host_name"]) == ("any:1", "debian-12")
    assert result.stdout.count("any:1") == 1


@pytest.mark.parametrize("kvm", [True, False])
def test_the_command_starts_on_a_host_without_kvm(run_smoke: Smoke, kvm: bool) -> None:
    assert ("--device=/dev/kvm" in run_smoke(kvm=kvm).stdout) == kvm


def test_the_end_fits_a_terminal_of_80_columns(run_smoke: Smoke) -> None:
    lines = run_smoke().stdout.splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80
    assert lines[-1].startswith("Evidence: "), "a path is never broken"


def test_the_command_is_for_an_engine_that_keeps_running(run_smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Start it on this host" in run_smoke().stdout
    assert "docker build" not in run_smoke().stdout, "the engine has the image"
    assert "like the virtual machine" in run_smoke("--host", "lab:debian-12").stdout
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    on_private = run_smoke().stdout
    assert "systemctl start docker" in on_private.partition("docker run")[0]
    assert max(map(len, on_private.splitlines()[:-1])) <= 80


def test_an_interrupted_run_shows_its_checks_and_its_folder(run_smoke: Smoke, tmp_path: Path) -> None:
    result = run_smoke(verdicts=[Verdict.WORKS, Verdict.WORKS], interrupted=True)
    assert result.exit_code == status.INTERRUPTED
    first, *_, last = result.stdout.splitlines()
    assert "interrupted: works: 1" in first
    assert "  2 of " in result.stdout
    assert last == f"Evidence: {tmp_path / 'report.html'}"
    assert "docker run" not in result.stdout


def test_a_run_interrupted_in_its_first_check_names_its_folder(run_smoke: Smoke, tmp_path: Path) -> None:
    result = run_smoke(verdicts=[], interrupted=True)
    assert result.exit_code == status.INTERRUPTED
    assert "no check ended" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Evidence: {tmp_path}"


def test_nothing_is_written_but_records_and_report(run_smoke: Smoke, prepared: dict[str, Any], tmp_path: Path) -> None:
    run_smoke()
    assert prepared["results"] is None, "the run's own folder"
    assert {one.name for one in tmp_path.iterdir()} == {"machine-night.jsonl", "report.html"}


def test_an_unknown_mode_ends_before_an_engine_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "engine_target", None)
    result = CliRunner().invoke(main.app, ["smoke", "--mode", "root"])
    assert isinstance(result.exception, ContractError)
