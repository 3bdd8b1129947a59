import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from conformance.cli import checkout, documents, main, matrix, searches, status
from conformance.cli.manual import manual
from conformance.engine import local_daemon
from conformance.errors import ContractError, EngineError, HarnessError, ImageLate
from conformance.lab import definition
from conformance.model import contract as contracts
from conformance.model.record import Record, Recorder
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.privileges import command as privileges_command
from conformance.selfcheck import command as selfcheck_command
from conformance.util import paths
from conformance.util.wait import DeadlineExpired
from conformance.workers import pool, sessions
from conformance.workers import selection as selections
from conformance.workers.hosts import EngineTarget

runner = CliRunner()


def test_modes_are_listed() -> None:
    result = runner.invoke(main.app, ["modes"])
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert names == [claims.id for claims in contracts.load().modes]


@pytest.mark.parametrize("words", [[], *([claims.id] for claims in contracts.load().modes)])
@pytest.mark.parametrize("columns", [80, 50])
def test_modes_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, words: list[str], columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = runner.invoke(main.app, ["modes", *words]).stdout.splitlines()
    assert max(map(len, lines)) <= max(columns, 60)


def test_a_mode_is_rendered() -> None:
    line = runner.invoke(main.app, ["modes", "unprivileged", "--docker", "--image", "mine:1"]).stdout
    assert line.startswith("docker run")
    assert line.rstrip().endswith("mine:1")
    compose = yaml.safe_load(runner.invoke(main.app, ["modes", "unprivileged", "--compose"]).stdout)
    assert compose["services"]["libvirt"]["cap_add"]
    assert "SYS_ADMIN" in runner.invoke(main.app, ["modes", "unprivileged"]).stdout


@pytest.mark.parametrize("words", [["--docker"], ["unprivileged", "--docker", "--compose"]])
def test_a_rendering_needs_one_mode_and_one_format(words: list[str]) -> None:
    assert runner.invoke(main.app, ["modes", *words]).exit_code == status.USAGE


def test_an_unknown_mode_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["conformance", "modes", "root"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == status.USAGE
    assert "what to do: choose one of: least" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ContractError("odd"), status.USAGE),
        (EngineError("none", "start one"), EXIT_CANNOT_RUN),
        (HarnessError("full"), EXIT_CANNOT_RUN),
        (DeadlineExpired("the lab's end", 5, "it runs"), EXIT_CANNOT_RUN),
        (ImageLate("waited 5 s for libvirt"), EXIT_CANNOT_RUN),
        (KeyboardInterrupt(), status.INTERRUPTED),
    ],
)
def test_an_error_is_one_message_and_a_status(
    error: BaseException, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr(main, "app", app)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == expected
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--iso", "none.iso", "--iso-expect", "x"], ["--mode", "root"], ["--no-such-option"]]
)
def test_a_bad_option_ends_before_an_engine_starts(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_daemon, "engine", None)
    result = runner.invoke(main.app, ["matrix", *words])
    assert result.exit_code == pytest.ExitCode.USAGE_ERROR
    assert words[1 if len(words) > 1 else 0] in result.stderr


def test_an_unwritable_cache_has_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(main, "app", paths.cache)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == EXIT_CANNOT_RUN
    assert "Not a directory\n  what to do: set CONFORMANCE_CACHE" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- side by side


class MatrixRun:
    """A matrix that is said to be spread."""

    made: ClassVar[list["MatrixRun"]] = []

    def __init__(self, selection: selections.Selection, words: tuple[str, ...], at_once: int, *_: object) -> None:
        self.selection, self.words, self.at_once = selection, words, at_once
        self.places: list[EngineTarget] = []
        self.runs = 0
        self.made.append(self)

    def prepare(self, places: list[EngineTarget]) -> None:
        self.places = places

    def run(self, _folder: Path | None) -> tuple[int, list[Record]]:
        self.runs += 1
        return 1, []


@pytest.fixture
def selected(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Simulate engines, sessions and parallel runs; returns pytest's words of each selection."""
    looked: list[list[str]] = []

    def collect(words: list[str]) -> selections.Collected:
        looked.append(words)
        selection = selections.Selection(
            cells=frozenset() if "none" in words else frozenset({("api", "least")}),
            modes=("least",),
            checks={"least": 1},
            verbose=0,
            modes_by_host=False,
            without=(),
            contract=paths.CONTRACT,
            required=(),
            image=None,
            host_name="mine" if "--host-name=mine" in words else None,
            results=None,
            junit=None,
            pci_devices=(),
            pci_modes=frozenset(),
            max_failures=0,
        )
        return selections.Collected(0, "", selection)

    @contextlib.contextmanager
    def engine(host: definition.Host | None) -> Iterator[EngineTarget]:
        yield EngineTarget(f"unix:///{host.name}.sock", host.name) if host else EngineTarget("unix:///here.sock")

    MatrixRun.made.clear()
    monkeypatch.setattr(matrix, "MatrixRun", MatrixRun)
    for module in (matrix, searches):
        monkeypatch.setattr(module, "engine_target", engine)
    monkeypatch.setattr(selections, "collect", collect)
    monkeypatch.setattr(sessions, "run_suites", lambda _words, _folder: (7, None))
    monkeypatch.setenv("DOCKER_HOST", "unix:///before.sock")
    monkeypatch.chdir(Path.cwd())
    return looked


ELSEWHERE = "--results=/nowhere"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate a run with a record; returns which of the project's documents were written."""
    done: list[str] = []
    monkeypatch.setattr(documents, "write_tables", lambda **_: done.append("tables"))
    return done


def test_a_run_writes_into_its_own_folder_only(
    selected: list[list[str]],
    written: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make_record: Callable[..., Record],
) -> None:
    folders: list[Path | None] = []

    def run(_words: list[str], folder: Path | None) -> tuple[int, list[Record]]:
        folders.append(folder)
        record = make_record(run=f"night-{len(folders)}")
        Recorder(folder or paths.run_folder(record.run), "docker-1", record.run).append(record)
        return 0, [record]

    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path)
    monkeypatch.setattr(sessions, "run_suites", run)
    result = runner.invoke(main.app, ["matrix", "--repeat", "2"], catch_exceptions=False)
    assert result.exit_code == 0
    assert folders == [None, tmp_path / "night-1"], "repeated runs share the first one's folder"
    report = tmp_path / "night-1" / "report.html"
    assert result.stdout.endswith(f"report: {report}\n")
    assert report.read_text().startswith("<!DOCTYPE html>")
    assert written == []


@pytest.mark.parametrize(("words", "tables"), [([], ["tables"]), (["--collect-only"], [])])
def test_publishing_records_into_the_project_and_writes_its_tables(
    selected: list[list[str]], written: list[str], words: list[str], tables: list[str]
) -> None:
    assert runner.invoke(main.app, ["matrix", "--publish", *words]).exit_code == 7
    assert selected == [[*words, f"--libvirt-results={paths.RESULTS}"]]
    assert written == tables


@pytest.mark.parametrize("word", ["--results", "--libvirt-results=x"])
def test_a_published_run_has_no_other_folder(selected: list[list[str]], written: list[str], word: str) -> None:
    result = runner.invoke(main.app, ["matrix", "--publish", word, "x"])
    assert result.exit_code == status.USAGE
    assert not selected
    assert not written


def test_one_mode_at_a_time_is_one_session_in_this_process(selected: list[list[str]]) -> None:
    assert runner.invoke(main.app, ["matrix", "-m", "api", ELSEWHERE]).exit_code == 7
    assert os.environ["DOCKER_HOST"] == "unix:///here.sock"
    assert not MatrixRun.made


def test_modes_at_once_are_spread(selected: list[list[str]]) -> None:
    assert runner.invoke(main.app, ["matrix", "-m", "api", "-n", "3", ELSEWHERE]).exit_code == 1
    (made,) = MatrixRun.made
    assert (made.words, made.at_once, made.runs) == (("-m", "api", ELSEWHERE), 3, 1)
    assert [place.address for place in made.places] == ["unix:///here.sock"]
    assert selected == [[*pool.NO_CACHE, "-m", "api", ELSEWHERE]], "options that parallel sessions reject fail at once"


@pytest.mark.parametrize("words", [["-mapi"], ["-m", "api"], ["-knat", "-rN", "-xvv"]])
def test_pytests_short_options_are_not_taken_for_ours(selected: list[list[str]], words: list[str]) -> None:
    assert runner.invoke(main.app, ["matrix", *words, ELSEWHERE]).exit_code == 7
    assert "".join(selected[0]) == "".join([*words, ELSEWHERE])


def test_several_hosts_are_spread_each_once_and_each_time(selected: list[list[str]]) -> None:
    hosts = ["--host", "lab", "--host", "here", "--host=lab:debian-13"]
    assert runner.invoke(main.app, ["matrix", *hosts, "--repeat", "2", ELSEWHERE]).exit_code == 1
    (made,) = MatrixRun.made
    assert [place.address for place in made.places] == ["unix:///debian-13.sock", "unix:///here.sock"]
    assert (made.at_once, made.runs) == (1, 2)


@pytest.mark.parametrize("words", [["--collect-only"], ["--co"], ["-k", "none"]])
def test_a_run_without_tests_is_not_parallel(selected: list[list[str]], words: list[str]) -> None:
    assert runner.invoke(main.app, ["matrix", "-n", "2", *words, ELSEWHERE]).exit_code == 7
    assert not MatrixRun.made


@pytest.mark.parametrize("word", ["--lf", "--sw", "--ff"])
def test_workers_refuse_options_about_last_failures_with_the_reason(selected: list[list[str]], word: str) -> None:
    refused = runner.invoke(main.app, ["matrix", "-n", "2", word, ELSEWHERE])
    assert refused.exit_code == status.USAGE
    assert word in refused.stderr
    assert "session" in refused.stderr
    assert not selected
    assert runner.invoke(main.app, ["matrix", word, ELSEWHERE]).exit_code == 7


@pytest.mark.parametrize(
    ("collected", "words"),
    [
        (selections.Collected(status.USAGE, "ERROR: usage: x\nx: error: bad word\n  inifile: y\n", None), "bad word"),
        (selections.Collected(int(pytest.ExitCode.NO_TESTS_COLLECTED), "no tests ran", None), "-k none"),
    ],
)
def test_options_that_select_nothing_end_with_a_message_and_a_remedy(
    selected: list[list[str]], monkeypatch: pytest.MonkeyPatch, collected: selections.Collected, words: str
) -> None:
    monkeypatch.setattr(selections, "collect", lambda _: collected)
    monkeypatch.setattr(matrix, "engine_target", None)
    result = runner.invoke(main.app, ["matrix", "-k", "none"], catch_exceptions=False)
    assert result.exit_code == collected.status
    first, second = result.stderr.splitlines()
    assert words in first
    assert second.startswith("  what to do: ")


def test_several_hosts_do_not_have_one_name(selected: list[list[str]]) -> None:
    result = runner.invoke(main.app, ["matrix", "--host", "lab", "--host", "here", "--host-name=mine"])
    assert result.exit_code == status.USAGE
    assert "--host-name" in result.stderr
    assert not MatrixRun.made


@pytest.mark.parametrize("option", [one for one in checkout.PATHS if one.startswith("--")])
@pytest.mark.parametrize("form", ["{option}={value}", "{option} {value}"])
def test_relative_paths_of_the_matrix_belong_to_the_callers_folder(
    selected: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = form.format(option=option, value="own/file").split()
    runner.invoke(main.app, ["matrix", "-k", "own/file", *words], catch_exceptions=False)
    (looked,) = selected
    assert looked == ["-k", "own/file", *form.format(option=option, value=tmp_path / "own/file").split()]
    assert Path.cwd() == paths.PROJECT


@pytest.mark.parametrize("words", [["-cown.ini"], ["-c", "own.ini"]])
def test_a_configuration_file_of_pytest_is_in_the_callers_folder(
    selected: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.setattr(documents, "write_tables", lambda **_: None)
    monkeypatch.chdir(tmp_path)
    runner.invoke(main.app, ["matrix", *words], catch_exceptions=False)
    assert selected == [["-c", str(tmp_path / "own.ini")]]


@pytest.mark.parametrize("command", ["privileges", "selfcheck"])
def test_searches_record_and_cache_in_the_callers_folder(
    selected: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    folders: list[Path] = []

    def search(*_: object, folder: Path, **__: object) -> Any:
        folders.append(folder)
        raise HarnessError("enough", "stop")

    monkeypatch.setattr(privileges_command, "search", search)
    monkeypatch.setattr(selfcheck_command, "selfcheck", search)
    monkeypatch.setenv("CONFORMANCE_CACHE", "cache")
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(main.app, [command, "--results", "own"])
    assert isinstance(result.exception, HarnessError), result.output
    assert folders == [tmp_path / "own"]
    assert paths.cache() == tmp_path / "cache"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text("<!-- generated: volumes -->\n<!-- end of generated -->\n")
    return file


def tables(readme: Path, *words: str) -> tuple[int, str]:
    result = runner.invoke(main.app, ["tables", "--readme", str(readme), "--results", str(readme.parent), *words])
    return result.exit_code, result.output


def test_tables_are_written_and_checked(readme: Path) -> None:
    before = readme.read_text()
    assert tables(readme, "--check") == (
        1,
        "README.md is behind the contract and the records: run conformance tables\n",
    )
    assert readme.read_text() == before
    assert tables(readme)[0] == 0
    assert "/var/lib/libvirt/images" in readme.read_text()
    assert tables(readme, "--check") == (0, "README.md is up to date\n")


def test_a_full_disk_does_not_cost_the_readme(readme: Path) -> None:
    before = readme.read_text()
    readme.with_suffix(".partial").symlink_to("/dev/full")
    result = runner.invoke(main.app, ["tables", "--readme", str(readme), "--results", str(readme.parent)])
    assert isinstance(result.exception, HarnessError)
    assert "No space left" in str(result.exception)
    assert readme.read_text() == before


def test_the_project_readme_is_up_to_date() -> None:
    assert runner.invoke(main.app, ["tables", "--check"]).exit_code == 0


def test_a_command_gets_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], _progress: object) -> int:
        seen.append(command)
        return 7

    monkeypatch.setattr(local_daemon, "run", run)
    assert runner.invoke(main.app, ["engine", "docker", "ps", "--all"]).exit_code == 7
    assert seen == [["docker", "ps", "--all"]]
    assert runner.invoke(main.app, ["engine"]).exit_code == status.USAGE


def test_the_help_of_the_matrix_points_to_that_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_daemon, "engine", None)
    result = runner.invoke(main.app, ["matrix", "--help"])
    assert result.exit_code == 0
    assert "pytest --help" in " ".join(result.stdout.split())


# ------------------------------------------------------------------------------ for people and programs


def test_modes_are_listed_for_programs() -> None:
    listed = json.loads(runner.invoke(main.app, ["modes", "--json"]).stdout)
    assert [one["id"] for one in listed] == [one.id for one in contracts.load().modes]
    assert {"path": "/dev/kvm"}.items() <= listed[0]["exposures"][0].items()
    (one,) = json.loads(runner.invoke(main.app, ["modes", "privileged", "--json"]).stdout)
    assert one["id"] == "privileged"
    assert runner.invoke(main.app, ["modes", "privileged", "--json", "--docker"]).exit_code == status.USAGE


COMMANDS = sorted(typer.main.get_group(main.app).commands.keys() - {"lab"})


@pytest.mark.parametrize("words", [[], ["lab"], *([name] for name in COMMANDS)])
def test_help_has_examples_and_exit_statuses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "main", lambda _words: 0)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(Path.cwd())
    text = " ".join(runner.invoke(main.app, [*words, "--help"]).stdout.split())
    assert " ".join(["Examples conformance", *words]) in text
    assert "Exit status" in text


def test_sections_of_help_stay_within_a_terminal() -> None:
    short, long = manual({"Files": {"a/[b]": "one", "c": "two"}, "Examples": {"x" * 60: "three words more"}}).split(
        "\n\n"
    )
    assert short == "[bold]Files[/bold]\n  a/\\[b]  one\n  c      two"
    assert long == f"[bold]Examples[/bold]\n  {'x' * 60}\n      three words more"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("conformance do", ["doctor"]),
        ("conformance modes unprivileged-unc", ["unprivileged-unconfined"]),
        ("conformance lab up debian-12", ["debian-12"]),
    ],
)
def test_the_shell_completes_commands_modes_and_labs(words: str, completed: list[str]) -> None:
    environment = {
        "_CONFORMANCE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = runner.invoke(main.app, [], prog_name="conformance", env=environment)
    assert result.stdout.split() == completed


@pytest.mark.parametrize("no_color", [False, True])
def test_help_has_colours_unless_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1" if no_color else ""}
    command = [sys.executable, "-m", "conformance.cli", "--help"]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert ("\x1b[1;36m" in text) is not no_color
