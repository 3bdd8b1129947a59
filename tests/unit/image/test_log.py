"""The image's log: libvirtd's events as lines, and its last error."""

import subprocess
from pathlib import Path

import pytest

LOG = Path(__file__).parents[3] / "image" / "lib" / "log.bash"


def relay(folder: Path, output: str, **environment: str) -> tuple[list[str], str]:
    """Relay the output of a shell script; returns the lines that came out, and the last error."""
    last_error = folder / "last-error"
    done = subprocess.run(
        ["bash", "-euc", f'. "{LOG}"; set +e; ({output}) | relay_libvirtd'],
        env={"LAST_ERROR": str(last_error), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines(), last_error.read_text().strip() if last_error.exists() else ""


def said(level: str, text: str) -> str:
    return f"printf '%s' '2026-01-01 00:00:00.000+0000: 1: {level} : {text}'"


def line(level: str, text: str) -> str:
    return f"2026-01-01T00:00:00.000Z {level} libvirtd: {text}"


END = "; echo; "


def test_a_pause_in_the_middle_of_a_line_does_not_split_it(tmp_path: Path) -> None:
    output = f"{said('info', 'first')}{END}{said('error', 'operation fai')}; sleep 0.3; echo led: disk; sleep 0.3"
    expected = [line("info", "first"), line("error", "operation failed: disk")]
    assert relay(tmp_path, output) == (expected, "operation failed: disk")


def test_a_pause_in_the_middle_of_the_time_does_not_split_it(tmp_path: Path) -> None:
    second = said("error", "second")
    output = f"{said('info', 'first')}{END}printf 2026-01-01; sleep 0.3; {second.replace('2026-01-01', '')}{END}:"
    assert relay(tmp_path, output) == ([line("info", "first"), line("error", "second")], "second")


def test_an_event_of_several_lines_is_one(tmp_path: Path) -> None:
    output = f"{said('error', 'one')}{END}echo two; echo three; sleep 0.3; {said('info', 'next')}{END}:"
    assert relay(tmp_path, output) == ([line("error", "one | two | three"), line("info", "next")], "one | two | three")


def test_a_last_line_without_an_end_is_not_lost(tmp_path: Path) -> None:
    assert relay(tmp_path, said("error", "dying")) == ([line("error", "dying")], "dying")


NO_CONTROLLER = "virCgroupDetectControllers:451 : At least one cgroup controller is required: No such device or address"
NO_KVM = "virHostCPUGetCPUID:1467 : Unable to open /dev/kvm: {}"


@pytest.mark.parametrize(
    ("text", "switch", "level"),
    [
        (NO_CONTROLLER, "off", "info"),
        (NO_CONTROLLER, "on", "error"),
        (NO_KVM.format("No such file or directory"), "on", "info"),
        (NO_KVM.format("Permission denied"), "on", "error"),
        ("virNetSocketReadWire:1782 : End of file while reading data: Input/output error", "on", "info"),
        ("operation failed: disk", "off", "error"),
    ],
)
def test_only_what_is_harmless_is_no_error(tmp_path: Path, text: str, switch: str, level: str) -> None:
    lines, last = relay(tmp_path, f"{said('error', text)}{END}:", QEMU_CGROUPS=switch)
    assert lines == [line(level, text)]
    assert last == (text if level == "error" else "")
