"""What is kept for a process ends with it, however that ends."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conformance.util import supervisor
from conformance.util.supervisor import SupervisedProcess
from conformance.util.wait import wait_for

PROGRAM = ["sh", "-c", "echo $$ >&2; exec sleep 1000"]

SCRIPT = f"""
import os, signal, time
from conformance.util.supervisor import SupervisedProcess
kept = SupervisedProcess(lambda folder: {PROGRAM!r})
while not kept.log:
    time.sleep(0.01)
print(kept.path, kept.log, flush=True)
"""

ENDS = {
    "by itself": "",
    "by an error": "raise SystemError",
    "at once": "os._exit(0)",
    "by SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "by SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
}


def runs(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + ENDS[end]], capture_output=True, text=True, check=False, timeout=60
    )
    folder, process = done.stdout.split()
    wait_for("folder and program to be gone", lambda: not Path(folder).exists() and not runs(int(process)), seconds=20)


def test_ctrl_c_of_a_terminal_reaches_neither_program_nor_keeper() -> None:
    kept = SupervisedProcess(lambda _folder: PROGRAM)
    wait_for("the program", lambda: bool(kept.log), seconds=20)
    assert os.getpgid(int(kept.log)) != os.getpgid(0)
    assert os.getsid(int(kept.log)) != os.getsid(0)
    kept.close()


def test_a_folder_is_its_users_alone_and_two_are_two() -> None:
    one, other = SupervisedProcess(), SupervisedProcess()
    try:
        assert one.path != other.path
        assert stat.S_IMODE(one.path.stat().st_mode) == 0o700
        assert one.alive
    finally:
        one.close()
    assert not one.path.exists()
    assert other.alive
    other.close()
    assert not other.alive


def test_a_program_that_ends_is_noticed_and_its_words_are_kept_until_the_end() -> None:
    kept = SupervisedProcess(lambda _folder: ["sh", "-c", "echo no such host >&2; exit 3"])
    wait_for("the end", lambda: not kept.alive, seconds=20)
    assert kept.log == "no such host\n"
    kept.close()
    assert not kept.path.exists()


def test_a_keeper_that_is_told_to_end_takes_everything_along() -> None:
    kept = SupervisedProcess(lambda _folder: PROGRAM)
    wait_for("the program", lambda: bool(kept.log), seconds=20)
    process = int(kept.log)
    kept._keeper.send_signal(signal.SIGTERM)
    wait_for("the end", lambda: not kept.path.exists() and not runs(process) and not kept.alive, seconds=20)
    kept.close()


def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = SupervisedProcess(lambda _folder: ["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done"])
    wait_for("the program", lambda: bool(kept.log), seconds=20)
    process = int(kept.log)
    kept.close()
    assert not runs(process)


def test_a_socket_fits_wherever_temporary_files_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    kept = SupervisedProcess()
    assert len(os.fsencode(f"{kept.path}{supervisor.LONGEST_NAME}")) <= supervisor.SOCKET_PATH_BYTES
    kept.close()
