"""A program that takes minutes: it ends, it fails, it is interrupted, and nothing of it goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.errors import LabError
from conformance.util import process
from conformance.util.wait import wait_for

RUN = """
import sys
from pathlib import Path
from conformance.util import process, signals
with signals.as_ctrl_c():
    process.run(sys.argv[2:], log=Path(sys.argv[1]), seconds=60)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_what_it_says_is_appended_and_it_runs_where_it_is_told(log: Path, tmp_path: Path) -> None:
    log.write_text("before\n")
    process.run(
        ["sh", "-c", 'pwd; echo "$WORD" >&2; cat'],
        log=log,
        seconds=20,
        folder=tmp_path,
        environment={"WORD": "a word"},
    )
    assert log.read_text() == f"before\n{tmp_path}\na word\n"


def test_one_that_is_missing(log: Path) -> None:
    with pytest.raises(LabError, match="no-such-program is not installed") as caught:
        process.run(["no-such-program"], log=log, seconds=20)
    assert "./run lab" in caught.value.remedy


def test_one_that_fails_shows_its_last_words(log: Path) -> None:
    with pytest.raises(LabError, match="sh failed with status 3; its last words:\n") as caught:
        process.run(["sh", "-c", "seq 40; echo why >&2; exit 3"], log=log, seconds=20)
    assert caught.value.message.endswith("    40\n    why")
    assert "    7\n" not in caught.value.message
    assert caught.value.remedy == f"read {log}"


def test_a_full_disk_has_a_remedy_of_its_own(log: Path) -> None:
    with pytest.raises(LabError, match="failed with status 1") as caught:
        process.run(["sh", "-c", "echo 'tar: write error: No space left on device'; exit 1"], log=log, seconds=20)
    assert "CONFORMANCE_CACHE" in caught.value.remedy


def test_one_that_does_not_end(log: Path) -> None:
    with pytest.raises(LabError, match=r"sh did not end within 0\.3 s"):
        process.run(["sh", "-c", "sleep 60 & echo $! $$; wait"], log=log, seconds=0.3)
    assert_gone(pids(log, 2))


def test_one_that_does_not_obey_is_killed(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERMINATE_SECONDS", 0.3)
    with pytest.raises(LabError, match="did not end"):
        process.run(["sh", "-c", "trap '' TERM; sleep 60 & echo $! $$; wait; wait"], log=log, seconds=0.5)
    assert_gone(pids(log, 2))


def interrupted(log: Path, sent: signal.Signals, script: str) -> tuple[list[int], str]:
    """Run a script, send its runner a signal, and return the two processes that it has told, and what was said."""
    words = [sys.executable, "-c", RUN, str(log), "sh", "-c", script]
    runner = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    inside = pids(log, 2)
    runner.send_signal(sent)
    _, said = runner.communicate(timeout=30)
    assert runner.returncode != 0
    return inside, said


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_all_that_it_started_the_deaf_too(log: Path, sent: signal.Signals) -> None:
    inside, said = interrupted(log, sent, "(trap '' TERM; exec sleep 60) & echo $! $$; wait")
    assert ("KeyboardInterrupt" if sent == signal.SIGINT else f"Terminated: {sent.name}") in said
    assert_gone(inside)


def test_it_ends_where_who_runs_it_is_killed(log: Path) -> None:
    inside, _ = interrupted(log, signal.SIGKILL, "trap 'wait; exit 1' TERM; sleep 60 & echo $! $$; wait")
    assert_gone(inside)


def hear() -> None:
    """In the background of a shell a process starts deaf to ctrl-C, under nohup to SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pids(log: Path, count: int) -> list[int]:
    def written() -> list[int] | None:
        found = log.read_text().split() if log.exists() else []
        return [int(word) for word in found] if len(found) == count else None

    return wait_for("the program's processes", written, seconds=20, interval=0.02)


def command_of(pid: int) -> bytes:
    """Return a process's words; none of one that has ended, or is about to."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def assert_gone(pids: list[int]) -> None:
    def left() -> list[int]:
        return [pid for pid in pids if command_of(pid)]

    wait_for("their end", lambda: not left(), seconds=30, seen=lambda: f"still there: {left()}")


def test_a_second_signal_does_not_disturb_the_end(log: Path) -> None:
    words = [sys.executable, "-c", RUN, str(log), "sh", "-c"]
    words.append("trap 'sleep 0.5; echo clean; exit 1' TERM; echo $$; while :; do sleep 0.05; done")
    runner = subprocess.Popen(words, stderr=subprocess.DEVNULL, preexec_fn=hear)
    pids(log, 1)
    for _ in range(4):
        runner.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert runner.wait(20) != 0
    assert log.read_text().endswith("clean\n")


# -------------------------------------------------------------------------------------------------------- as root


def test_root_makes_files_of_every_owner_and_another_user_in_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert process.as_root(["make", "it"]) == ["make", "it"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    command = process.as_root(["make", "it"])
    assert (command[0], command[-3:]) == ("unshare", ["--", "make", "it"])


# ------------------------------------------------------------------------------------------------------- last words


def test_the_end_of_a_file_without_what_a_terminal_would_obey(log: Path) -> None:
    log.write_bytes(b"first\n\n\x1b[2J\x1b]0;title\x07second\rthird\x00\n\xff\xfe\n  \n")
    shown = process.tail(log)
    assert (
        shown == "    first\n    [2J]0;titlesecond\n    third\n    \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    )
    assert process.tail(log, 1).count("\n") == 0


@pytest.mark.parametrize("content", [None, b"", b"\n \n"])
def test_of_nothing_there_is_no_end(log: Path, content: bytes | None) -> None:
    if content is not None:
        log.write_bytes(content)
    assert process.tail(log) == "    (nothing)"


def test_what_was_being_made_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    for name in ("host-making-1", "host-making-2", "host-0123", "other-making-1"):
        (tmp_path / name / "deep").mkdir(parents=True)
    process.sweep(tmp_path, "host-making-*")
    assert sorted(left.name for left in tmp_path.iterdir()) == ["host-0123", "other-making-1"]
