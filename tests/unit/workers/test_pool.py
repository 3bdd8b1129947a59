"""Sessions side by side, played by shell scripts: each says what it waits for, and sees who else is there."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance.errors import HarnessError
from conformance.util.progress import Progress, Standing
from conformance.util.wait import wait_for
from conformance.workers import pool
from conformance.workers.pool import RunSettings, Task, WorkerHost, WorkerPool

HERE = WorkerHost("docker-1", "unix:///here.sock")
THERE = WorkerHost("lab-1", "unix:///there.sock")

SHELL = """progress=$1
until_there() { for _ in $(seq 600); do [ ! -e "$1" ] || return 0; sleep 0.05; done; exit 77; }
say() { echo "… $1" >>"$progress"; }
"""
"""Begins each script; what it waits for comes within half a minute, which no test comes near unless it fails."""


def ends_cleanly(*, marks: str = "cleaned", then: str = "touch ready") -> str:
    """Return a session that goes on until it is to end, and then makes a file."""
    return f"trap 'say \"cleaning up\"; touch {marks}; exit 2' TERM; {then}; until_there never"


def part(mode: str, host: WorkerHost = HERE) -> Task:
    return Task(host, (mode,), frozenset({"the host's network"} if mode.endswith("hostnet") else ()))


class Told(Progress):
    """Keeps what is said; on a word, ctrl-C is pressed."""

    def __init__(self, *, ctrl_c_at: str = "") -> None:
        self.lines: list[str] = []
        self.headlines: list[str] = []
        self.stay: list[str] = []
        self._ctrl_c_at = ctrl_c_at

    def __call__(self, text: str) -> None:
        self.lines.append(text)
        if self._ctrl_c_at and self._ctrl_c_at in text:
            raise KeyboardInterrupt

    def headline(self, standing: object) -> None:
        self.headlines.append(str(standing))

    def line(self, text: str) -> None:
        self.stay.append(text)

    def clear(self) -> None:
        pass


Led = Callable[..., int]


@pytest.fixture
def shown() -> list[str]:
    """What was shown of each part, as it ended."""
    return []


@pytest.fixture
def lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[str]) -> Led:
    """Asks parts, each by the script of its mode; returns the exit status."""
    monkeypatch.chdir(tmp_path)

    def lead(
        scripts: dict[Task, str],
        *,
        at_once: int = 2,
        progress: Progress | None = None,
        show: Callable[[str], object] = shown.append,
        first_failure_ends: bool = False,
        junit: Path | None = None,
    ) -> int:
        def made(asked: Task, _shared: RunSettings, file: Path) -> Sequence[str]:
            return ["sh", "-c", SHELL + scripts[asked], "sh", str(file)]

        shared = RunSettings("run", (), at_once, first_failure_ends=first_failure_ends, junit=junit)
        return WorkerPool(list(scripts), shared, progress or Told(), show, made).run()

    return lead


# ---------------------------------------------------------------------------------------- who starts when


def test_modes_run_side_by_side(lead: Led) -> None:
    meet = {
        part("unprivileged"): "touch one; until_there two",
        part("least"): "touch two; until_there one",
    }
    assert lead(meet) == 0


def test_hosts_run_side_by_side_and_each_takes_so_many_modes() -> None:
    here, also_here, there = part("unprivileged"), part("least"), part("unprivileged", THERE)
    assert pool.startable([here, also_here, there], [], 1) == here
    assert pool.startable([also_here, there], [here], 1) == there
    assert pool.startable([also_here], [here, there], 1) is None
    assert pool.startable([also_here], [here, there], 2) == also_here


def test_what_two_modes_both_need_for_themselves_they_have_one_after_the_other() -> None:
    one, other, there = (
        part("unprivileged-hostnet"),
        part("unprivileged-macvtap-hostnet"),
        part("unprivileged-hostnet", THERE),
    )
    assert pool.startable([other], [one], 3) is None
    assert pool.startable([other, part("least")], [one], 3) == part("least")
    assert pool.startable([other, there], [one], 3) == there
    devices = Task(HERE, ("privileged-passthrough",), frozenset({"the host's devices"}))
    assert pool.startable([devices], [one], 3) == devices


def test_those_that_go_one_after_another_start_first(lead: Led, shown: list[str]) -> None:
    lead({part(mode): "true" for mode in ("least", "unprivileged-hostnet", "privileged")}, at_once=1)
    assert [text.partition(":")[0] for text in shown] == ["unprivileged-hostnet", "least", "privileged"]


# ---------------------------------------------------------------------------------------- what comes of it


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        (["exit 0", "exit 0"], 0),
        (["exit 0", "exit 1"], 1),
        (["exit 5", "exit 0"], 0),
        (["exit 5", "exit 5"], 5),
        (["exit 1", "exit 6"], 6),
        (["kill -9 $$", "exit 0"], 128 + 9),
    ],
)
def test_the_worst_status_counts(lead: Led, scripts: list[str], status: int) -> None:
    assert lead(dict(zip([part("unprivileged"), part("least")], scripts, strict=True))) == status


def test_a_host_that_cannot_be_asked_is_asked_no_more_and_others_are(lead: Led, tmp_path: Path) -> None:
    scripts = {
        part("unprivileged"): "exit 6",
        part("least"): "touch asked",
        part("unprivileged", THERE): "until_there there; touch first",
        part("least", THERE): "touch second",
    }
    (tmp_path / "there").touch()
    assert lead(scripts, at_once=1) == 6
    assert {file.name for file in tmp_path.iterdir()} == {"there", "first", "second"}


def test_what_a_part_wrote_is_shown_whole_with_how_it_ended(lead: Led, shown: list[str]) -> None:
    lead({part("least"): "echo a failure; echo and why >&2; exit 1", part("unprivileged", THERE): "exit 3"})
    (failed,) = [text for text in shown if "a failure" in text]
    assert failed.startswith("a failure\nand why\nleast on docker-1: failed after ")
    assert any("unprivileged on lab-1: could not run (exit status 3)" in text for text in shown)


def test_what_a_part_waits_for_is_told_with_its_name(lead: Led) -> None:
    told = Told()
    say = 'say looking; say "least: starting the container"; printf half >>"$progress"'
    lead({part("least"): say}, progress=told)
    assert told.lines == ["least: looking", "least: starting the container"]


REPORTS = """
report() { printf '{"standing": {"mode": "%s", "number": 1, "modes": 1, "done": %s, "checks": 4, "left": 60}}\\n' \
    "$1" "$2" >>"$progress"; }
"""


def test_all_parts_have_one_line_of_progress(lead: Led, shown: list[str]) -> None:
    told = Told()
    one, other = part("least"), Task(HERE, ("unprivileged",), checks=9, seconds=100.0)
    ends = (
        REPORTS + """report least 1; until_there go; report least 4; echo '{"line": "least: 4 work"}' >>"$progress" """
    )
    lead({one: ends, other: REPORTS + "report unprivileged 2; sleep 0.4; touch go"}, progress=told, at_once=2)
    assert told.headlines[0] == "0/2 modes done"
    assert any("least 1/4, unprivileged 2/4 · about 1 min left" in text for text in told.headlines)
    assert told.stay == ["least: 4 work"]
    assert len(shown) == 1, "the line of the part that reported its last check says how it ended"
    assert shown[0].startswith("unprivileged: passed after ")


def test_the_time_left_includes_modes_that_wait(lead: Led) -> None:
    told = Told()
    waits = Task(HERE, ("unprivileged",), seconds=240.0)
    lead({part("least"): REPORTS + "report least 1", waits: "true"}, progress=told, at_once=1)
    assert "0/2 modes done · least 1/4 · about 5 min left" in told.headlines


def test_what_was_reached_counts_parts_that_never_began(lead: Led, tmp_path: Path) -> None:
    first, last = part("least"), Task(HERE, ("unprivileged",), checks=9)

    def made(task: Task, _settings: RunSettings, file: Path) -> Sequence[str]:
        return ["sh", "-c", SHELL + REPORTS + "report least 3; exit 6", "sh", str(file)]

    workers = WorkerPool([first, last], RunSettings("run", (), 1), Told(), lambda _: None, made)
    assert workers.run() == 6
    assert workers.reached == (3, 13)


def test_modes_that_cannot_run_are_neither_counted_nor_shown(lead: Led, shown: list[str]) -> None:
    told = Told()
    lead({Task(HERE, ("least", "privileged"), runs=False): "say looking; exit 5"}, progress=told)
    assert (told.lines, told.headlines, shown) == ([], ["0/0 modes done"], [])


def test_each_part_asks_its_hosts_engine(lead: Led, shown: list[str]) -> None:
    lead({part("least"): 'echo "$DOCKER_HOST"', part("least", THERE): 'echo "$DOCKER_HOST"'})
    assert {text.partition("\n")[0] for text in shown} == {HERE.address, THERE.address}


def test_the_command_is_a_session_of_its_modes() -> None:
    host = WorkerHost("lab-1", "unix:///there.sock", ("--host-name=lab-1",))
    words = pool.command(Task(host, ("least", "privileged")), RunSettings("7", ("-m", "kvm"), 2), Path("/tmp/progress"))
    assert words[words.index("-m") :] == [
        *("-m", "conformance.workers.worker", "7", "least,privileged", "/tmp/progress", "suites"),
        *("-p", "no:cacheprovider", "--host-name=lab-1", "-m", "kvm"),
    ]


# ---------------------------------------------------------------------------------------- JUnit

WRITES_JUNIT = """
echo "<testsuites name='pytest tests'><testsuite name='pytest'><testcase name='x[$0]'/></testsuite></testsuites>" \\
    >"${2#--junit-xml=}"
"""


def test_all_parts_are_in_one_report_for_junit(lead: Led, tmp_path: Path, shown: list[str]) -> None:
    wanted = tmp_path / "folder" / "junit.xml"
    killed = "kill -9 $$"
    lead({part("least"): WRITES_JUNIT, part("unprivileged"): WRITES_JUNIT, part("privileged"): killed}, junit=wanted)
    root = ElementTree.parse(wanted).getroot()
    assert root.tag == "testsuites"
    assert [len(suite.findall("testcase")) for suite in root] == [1, 1]
    assert shown[-1] == f"JUnit report of all sessions: {wanted}\n"


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match=r"cannot write .*junit\.xml: File exists"):
        pool.merge_junit([], tmp_path / "file" / "junit.xml")


# ---------------------------------------------------------------------------------------- the end


def test_the_first_failure_ends_all_where_that_is_wanted(lead: Led, tmp_path: Path) -> None:
    scripts = {
        part("least"): "until_there ready; exit 1",
        part("unprivileged"): ends_cleanly(),
        part("privileged"): "touch started",
    }
    assert lead(scripts, first_failure_ends=True) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"ready", "cleaned"}


def test_ctrl_c_lets_each_part_clean_up_and_starts_no_more(lead: Led, tmp_path: Path, shown: list[str]) -> None:
    scripts = {
        part("least"): ends_cleanly(marks="cleaned-too", then="until_there ready; say now"),
        part("unprivileged"): ends_cleanly(),
        part("privileged"): "touch started",
    }
    told = Told(ctrl_c_at="now")
    assert lead(scripts, progress=told) == pytest.ExitCode.INTERRUPTED
    assert {file.name for file in tmp_path.iterdir()} == {"ready", "cleaned", "cleaned-too"}
    assert "unprivileged: cleaning up" in told.lines, "its clean-up is told of, too"
    assert len(shown) == 2
    assert all("interrupted" in text for text in shown)


def test_a_second_ctrl_c_is_passed_on(lead: Led, tmp_path: Path) -> None:
    twice = """
trap '[ ! -e patient ] || { touch hurried; exit 2; }; touch patient; say "now, patiently"' TERM
say now; until_there never
"""
    assert lead({part("least"): twice}, progress=Told(ctrl_c_at="now")) == pytest.ExitCode.INTERRUPTED
    assert (tmp_path / "hurried").exists()


def test_a_part_that_does_not_end_is_killed(lead: Led, monkeypatch: pytest.MonkeyPatch, shown: list[str]) -> None:
    monkeypatch.setattr(pool, "END_SECONDS", 0.1)
    deaf = "trap '' TERM; say now; until_there never"
    assert lead({part("least"): deaf}, progress=Told(ctrl_c_at="now")) == pytest.ExitCode.INTERRUPTED
    assert "least: killed 0 s after the signal to end" in shown[0]


@pytest.mark.parametrize("ended", [True, False])
def test_a_part_that_ctrl_c_reached_outside_of_its_session_was_interrupted(
    lead: Led, shown: list[str], ended: bool
) -> None:
    done = json.dumps({"standing": dataclasses.asdict(Standing("least", 1, 1, 8 if ended else 0, 8))})
    script = f"trap 'exit 143' TERM; echo '{done}' >>$1; say now; until_there never"
    assert lead({part("least"): script}, progress=Told(ctrl_c_at="now")) == pytest.ExitCode.INTERRUPTED
    assert not any("could not run" in text or "143" in text for text in shown)
    assert [text.startswith("least: interrupted after ") for text in shown] == ([] if ended else [True])


def test_no_part_goes_on_where_leading_them_fails(lead: Led, tmp_path: Path) -> None:
    def full(_text: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        lead({part("least"): "until_there ready", part("unprivileged"): ends_cleanly()}, show=full)
    assert (tmp_path / "cleaned").exists()


LEADER = """
import sys
from pathlib import Path
from conformance.util.progress import Progress
from conformance.workers import pool

one = pool.Task(pool.WorkerHost("docker-1", ""), "least")
made = lambda _part, _shared, file: ["sh", "-c", sys.argv[1], "sh", str(file)]
pool.WorkerPool([one], pool.RunSettings("run", (), 1), Progress(), print, made).run()
"""


def test_no_part_goes_on_where_who_leads_them_was_killed(tmp_path: Path) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", LEADER, SHELL + ends_cleanly()],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        wait_for("the part to begin", (tmp_path / "ready").exists, seconds=60)
    finally:
        leader.send_signal(signal.SIGKILL)
        leader.wait(60)
    wait_for("the part to clean up", (tmp_path / "cleaned").exists, seconds=60)
