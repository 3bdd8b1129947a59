"""A lab without a lab: QEMU, ssh and the tools only pretend; started, found again, saved, interrupted, swept away."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.errors import EngineError, LabError
from conformance.lab import definition, disk, emulator, machine, packages, qemu_command, startup
from conformance.lab.disk import Disk
from conformance.lab.emulator import Emulator
from conformance.lab.machine import Machine
from conformance.util import paths, wait
from conformance.util.wait import DeadlineExpired, wait_for

HOST = definition.load()

TCG = Emulator("/some/qemu", "tcg", "7.2.22, mended")
KVM = Emulator("qemu-system-x86_64", "kvm", "10.0.13")


def words(qemu: Emulator, host: definition.Host = HOST) -> list[str]:
    made = Disk(Path("/made"))
    return qemu_command.command(host, made, qemu, Path("/run"), Path("/run/disk.qcow2"), port=10022)


def options(command: list[str], name: str) -> list[str]:
    return [value for option, value in pairwise(command) if option == name]


# ------------------------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize("qemu", [TCG, KVM], ids=["tcg", "kvm"])
def test_nothing_listens_but_the_forwarded_port_on_the_loopback_address(qemu: Emulator) -> None:
    command = words(qemu)
    forwarded = [part for word in command for part in word.split(",") if "fwd" in part]
    assert forwarded == ["hostfwd=tcp:127.0.0.1:10022-:22"]
    listening = {"-vnc", "-spice", "-monitor", "-gdb", "-s", "-chardev", "-incoming", "-nbd", "-object"}
    assert not listening & set(command)
    assert options(command, "-qmp") == ["unix:/run/monitor,server=on,wait=off"]
    assert options(command, "-serial") == ["file:/run/console.log"]
    assert options(command, "-display") == ["none"]
    assert "-nodefaults" in command
    outside, *inside = options(command, "-netdev")
    assert outside.startswith("user,id=outside,")
    assert [net.startswith("user,") and "restrict=on" in net for net in inside] == [True, True]


def test_there_is_a_spare_card_and_a_spare_controller_for_a_passthrough() -> None:
    devices = options(words(TCG), "-device")
    assert any(device.startswith("intel-iommu,intremap=on") for device in devices)
    cards = [device for device in devices if device.startswith("virtio-net-pci,")]
    assert [card.split(",")[1] for card in cards] == ["netdev=outside", "netdev=beyond", "netdev=spare"]
    assert [("iommu_platform=on" in card) for card in cards] == [False, False, True]
    assert "ich9-ahci,id=spare" in devices
    assert "ide-hd,bus=spare.0,drive=spare-disk" in devices
    assert any("id=spare-disk,file=/run/spare.raw" in drive for drive in options(words(TCG), "-drive"))
    assert "intel_iommu=on" in options(words(TCG), "-append")[0].split()
    # What is on QEMU's PCI bus, which gives slots from 1 on; the others are on none, or on a controller.
    slots = [device for device in devices if not device.startswith(("intel-iommu,", "ide-hd,"))]
    assert [f"0000:00:{slots.index(device) + 1:02x}.0" for device in (cards[2], "ich9-ahci,id=spare")] == [
        *qemu_command.SPARE
    ]


def test_kvm_is_used_or_emulated_with_nested_paging() -> None:
    assert options(words(KVM), "-accel") == ["kvm"]
    assert options(words(KVM), "-cpu") == ["host,migratable=off"]
    assert options(words(TCG), "-accel") == ["tcg,thread=multi"]
    assert {"+svm", "+npt"} <= set(options(words(TCG), "-cpu")[0].split(","))
    slow = set(qemu_command.EMULATED)
    assert slow <= set(options(words(TCG), "-append")[0].split())
    assert not slow & set(options(words(KVM), "-append")[0].split())
    assert words(TCG)[0] == "/some/qemu"


def test_the_host_says_what_it_has() -> None:
    host = HOST.model_copy(update={"cpus": 7, "memory_mib": 2048, "kernel_arguments": ("a=b", "c")})
    command = words(TCG, host)
    assert options(command, "-smp") == ["7"]
    assert options(command, "-m") == ["2048"]
    assert options(command, "-append")[0].split()[-2:] == ["a=b", "c"]


def test_a_saved_state_depends_on_program_and_machine() -> None:
    keys = [
        startup._key(HOST, TCG),
        startup._key(HOST, replace(TCG, version="7.2.23, mended")),
        startup._key(HOST, replace(TCG, program="/another/qemu")),
        startup._key(HOST.model_copy(update={"memory_mib": 2048}), TCG),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == startup._key(HOST, TCG) == startup._key(HOST, replace(TCG, program="/elsewhere/some/qemu"))


# ---------------------------------------------------------------------------------------------------- what is there


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with a path so short that sockets fit into it."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("CONFORMANCE_CACHE", folder)
        yield Path(folder)


@pytest.fixture
def runs(cache: Path) -> Path:
    return machine.runs_folder(cache)


def written(folder: Path, **changes: object) -> Path:
    """Write what a lab leaves for others to find it by."""
    facts = {"host": "debian-13", "disk": "/made", "pid": os.getpid(), "port": 1, "kept": True, "accel": "x"}
    folder.mkdir()
    (folder / "machine.json").write_text(json.dumps(facts | changes))
    return folder


@pytest.fixture
def alive(runs: Path) -> Iterator[Machine]:
    """A lab whose QEMU is alive, and does not answer."""
    folder = runs / "debian-13-1-abc"
    program = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, f"unix:{folder}/monitor"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        written(folder, pid=process.pid)
        yield machine.running()[0]
        process.kill()


def test_a_lab_that_lives_is_found_and_its_facts(alive: Machine) -> None:
    assert (alive.host.name, alive.port, alive.kept, alive.accel) == ("debian-13", 1, True, "x")
    assert alive.disk.folder == Path("/made")
    assert alive.state() == "hung"
    assert machine.running() == [alive]


def test_what_a_dead_one_left_is_removed(runs: Path, alive: Machine) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    written(runs / f"debian-13-{dead.pid}-2", pid=dead.pid, kept=False)
    written(runs / f"debian-13-{dead.pid}-3", pid=os.getpid(), kept=False)  # a later process has got its number
    written(runs / f"debian-13-{dead.pid}-4", host="no-longer-defined")
    for name, text in (("5", "half a li"), ("6", "[]"), ("7", "{}"), ("8", '{"host": 1}')):
        written(runs / f"debian-13-{dead.pid}-{name}")
        (runs / f"debian-13-{dead.pid}-{name}" / "machine.json").write_text(text)
    (runs / "odd").mkdir()
    assert machine.running() == [alive]
    assert [folder.name for folder in runs.iterdir()] == [alive.folder.name]


def test_one_that_was_to_stay_and_has_ended_is_told(runs: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = written(runs / f"debian-13-{dead.pid}-a", pid=dead.pid)
    (ended,) = machine.running()
    assert (ended.folder, ended.state(), ended.alive) == (folder, "ended", False)
    ended.stop()
    assert machine.running() == []


def test_one_that_is_being_started_is_left_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / f"debian-13-{os.getpid()}-abc").mkdir()
    assert machine.running() == []
    assert len(list(runs.iterdir())) == 1
    monkeypatch.setattr(machine, "COLD_SECONDS", -1)
    assert machine.running() == []
    assert not list(runs.iterdir())


def test_a_stray_file_hurts_nobody(runs: Path) -> None:
    (runs / "notes").write_text("")
    assert machine.running() == []


def test_one_that_is_stopped_is_gone_with_its_files(alive: Machine) -> None:
    alive.stop()
    assert not alive.alive
    assert not alive.folder.exists()
    assert alive.state() == "ended"
    alive.stop()


def test_one_that_does_not_hear_is_killed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "END_SECONDS", 0.5)
    folder = runs / "debian-13-1-abc"
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        written(folder, pid=process.pid)
        machine.running()[0].stop()
    assert not folder.exists()


def test_one_that_outlives_sigkill_is_told(alive: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "END_SECONDS", 0.1)
    with monkeypatch.context() as deaf:
        deaf.setattr("os.kill", lambda _pid, _signal: None)
        deaf.setattr(Machine, "alive", True)
        with pytest.raises(LabError, match=rf"did not end within 0\.1 s \(QEMU is process {alive.pid}\)"):
            alive.stop()


# ------------------------------------------------------------------------------------------------ started and saved


@dataclass
class Tools:
    """A PATH of programs that pretend, and what a lab is made of."""

    bin: Path
    made: Disk
    qemu: Emulator

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def tools(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    folder = cache / "bin"
    folder.mkdir()
    made = cache / "lab" / f"debian-13-{HOST.key}"
    made.mkdir(parents=True)
    for name in disk.FILES:
        (made / name).touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    tools = Tools(folder, Disk(made), Emulator(str(folder / "qemu"), "tcg", "0, pretended"))
    tools.program("qemu", f'exec {sys.executable} {Path(__file__).with_name("fake_qemu.py")} "$@"')
    # The file that it makes is the last word but for a size.
    tools.program("qemu-img", 'for word; do case $word in */*) file=$word;; esac; done; echo image >"$file"')
    tools.program("ssh", "exit 0")
    return tools


Start = Callable[..., Machine]


@pytest.fixture
def start(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a lab as :func:`startup.start` does, with QEMU and disk made already; it ends with the test."""
    monkeypatch.setattr("conformance.media.probe.ensure", lambda _: None)
    monkeypatch.setattr(packages, "require", lambda *_: None)
    monkeypatch.setattr(emulator, "ensure", lambda *_: tools.qemu)
    monkeypatch.setattr(disk, "ensure", lambda *_: tools.made)
    monkeypatch.setattr(Machine, "failed", lambda self, what: LabError(f"the lab {what}; its state: {self.state()}"))
    started: list[Machine] = []

    def start(said: list[str] | None = None, **more: bool) -> Machine:
        started.append(startup.start(HOST, (said if said is not None else []).append, **more))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_the_first_start_saves_a_state_and_goes_on_from_it(tools: Tools, start: Start, runs: Path) -> None:
    said: list[str] = []
    lab = start(said)
    assert [line.split()[0] for line in said] == ["booting", "saving", "starting"]
    assert lab.state() == "running"
    assert machine.running() == [lab]
    (saved,) = tools.made.folder.glob("state-*/")
    assert (saved / "memory").read_bytes() == b"memory"
    assert (saved / "disk.qcow2").exists()
    assert not lab.kept

    said.clear()
    other = start(said, keep=True)
    assert [line.split()[0] for line in said] == ["starting"]
    assert machine.running() == sorted([lab, other], key=lambda one: one.folder)
    assert other.kept


def test_a_boot_that_is_asked_for_does_not_touch_the_state(tools: Tools, start: Start) -> None:
    start().stop()
    said: list[str] = []
    start(said, saved=False)
    assert [line.split()[0] for line in said] == ["booting"]
    assert any(tools.made.folder.glob("state-*/memory"))


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_state_that_cannot_be_used_is_thrown_away(
    tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, how: str, runs: Path
) -> None:
    monkeypatch.setattr(startup, "RESUME_SECONDS", 1)
    monkeypatch.setattr("conformance.lab.monitor.ANSWER_SECONDS", 0.3)
    start().stop()
    monkeypatch.setenv("QEMU", how)
    said: list[str] = []
    lab = start(said)
    assert lab.state() == "running"
    assert "cannot be used, booting it" in said[1]
    assert not list(tools.made.folder.glob("state-*"))
    assert list(runs.iterdir()) == [lab.folder]


def test_a_state_that_cannot_be_saved_is_told_and_nothing_is_left(
    tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    monkeypatch.setenv("QEMU", "saves-nothing")
    with pytest.raises(LabError, match="could not save the lab's state: failed"):
        start()
    assert not list(runs.iterdir())
    assert not list(tools.made.folder.glob("state-*/"))


def test_a_qemu_that_refuses(tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    monkeypatch.setenv("QEMU", "refuses")
    with pytest.raises(LabError, match="did not start: QEMU ended with status 1"):
        start()
    assert not list(runs.iterdir())


@pytest.mark.parametrize(
    ("deadline", "words"),
    [("END_SECONDS", "QEMU opened no monitor within 0 s"), ("SAVE_SECONDS", "did not save its state within 0 s")],
)
def test_a_qemu_that_is_too_slow(
    tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, runs: Path, deadline: str, words: str
) -> None:
    def wait_for(what: str, ask: Callable[[], Any], *, seconds: float, **more: Any) -> Any:
        if seconds == 0 and "end" not in what:
            raise DeadlineExpired(what, seconds, "nothing")
        return wait.wait_for(what, ask, seconds=seconds or 30, **more)

    monkeypatch.setattr(startup, "wait_for", wait_for)
    monkeypatch.setattr(startup, deadline, 0)
    with pytest.raises(LabError, match=words):
        start()
    assert not list(runs.iterdir())


def test_an_engine_that_never_answers(tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    monkeypatch.setattr(startup, "COLD_SECONDS", 0.6)
    tools.program("ssh", "echo 'Connection refused' >&2; exit 255")
    with pytest.raises(LabError, match=r"within 0\.6 s \(Connection refused\); its state: running"):
        start()
    assert not list(runs.iterdir())


def test_a_port_that_is_taken_meanwhile_is_another_one_the_next_time(tools: Tools, start: Start, runs: Path) -> None:
    start().stop()
    (tools.bin / "qemu").rename(tools.bin / "good")
    tools.program(
        "qemu",
        f'if [ -e {tools.bin}/taken ]; then exec {tools.bin}/good "$@"; fi\n'
        f"touch {tools.bin}/taken\n"
        f"echo \"Could not set up host forwarding rule 'hostfwd=tcp:127.0.0.1:1-:22'\"\nexit 1",
    )
    lab = start()
    assert lab.state() == "running"
    assert list(runs.iterdir()) == [lab.folder]


def test_an_error_shows_the_console_and_keeps_it(
    tools: Tools, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lab = start()
    monkeypatch.undo()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "artefacts")
    lab.console.write_text("Linux version\x1b[2J\n" + "x\n" * 99 + "the end\n")
    error = lab.failed("did not do it")
    assert "did not do it; its state: running" in error.message
    assert error.message.endswith("    the end")
    (kept,) = (tmp_path / "artefacts").iterdir()
    assert kept.read_text().startswith("Linux version")
    assert kept.name in error.remedy
    os.kill(lab.pid, signal.SIGKILL)
    wait_for("its end", lambda: not lab.alive, seconds=30)
    (lab.folder / "qemu.log").write_text("Aborted\n")
    error = lab.failed("no longer runs")
    assert "its state: ended; QEMU wrote:\n    Aborted" in error.message
    assert "conformance lab up" in error.remedy


# ------------------------------------------------------------------------------------------------- without an engine


@pytest.fixture
def without_image(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A disk that was made where no engine was; notes what is built, and a lab that is told to power off does."""
    tools.made.without_image.touch()
    built: list[str] = []

    def run(self: Machine, command: str, _seconds: float = 0) -> str:
        if command == "systemctl poweroff":
            os.kill(self.pid, signal.SIGTERM)
        return ""

    monkeypatch.setattr(Machine, "run", run)
    monkeypatch.setattr(Machine, "tunnel", lambda _: SimpleNamespace(socket="/lab.sock", close=lambda: None))
    monkeypatch.setattr(startup, "connect", lambda address: address)
    monkeypatch.setattr("conformance.engine.image.ensure_image", lambda engine, _: built.append(engine))
    return built


def test_where_no_engine_had_the_image_the_lab_builds_it_once(
    tools: Tools, start: Start, without_image: list[str]
) -> None:
    tools.made.root.write_text("without")
    said: list[str] = []
    start(said)
    assert without_image == ["unix:///lab.sock"]
    assert any("builds the image, once" in line for line in said)
    assert tools.made.root.read_text() == "image\n", "what qemu-img wrote"
    assert not tools.made.without_image.exists()
    assert not (tools.made.folder / "disk.new").exists()
    start()
    assert len(without_image) == 1


def test_an_image_that_cannot_be_built_leaves_the_disk_as_it_was(
    tools: Tools, start: Start, runs: Path, without_image: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no mirror")

    tools.made.root.write_text("without")
    monkeypatch.setattr("conformance.engine.image.ensure_image", fail)
    with pytest.raises(LabError, match="did not build the image: no mirror; its state: running"):
        start()
    assert (tools.made.root.read_text(), tools.made.without_image.exists()) == ("without", True)
    assert not list(runs.iterdir())
    assert not without_image


def test_what_is_missing_is_named_before_anything_is_made(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def require(*purposes: str) -> None:
        asked.append(purposes)
        raise LabError("not installed")

    monkeypatch.setattr(packages, "require", require)
    monkeypatch.setattr("conformance.media.probe.ensure", pytest.fail)
    monkeypatch.setattr(emulator, "ensure", pytest.fail)
    monkeypatch.setattr(disk, "ensure", pytest.fail)
    for made, builds, user in ((True, False, 0), (False, True, 0), (False, True, 1000)):
        monkeypatch.setattr(emulator, "builds", lambda builds=builds: builds)
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        if not made:
            tools.made.root.unlink(missing_ok=True)
        with pytest.raises(LabError):
            startup.start(HOST, lambda _: None)
    assert asked == [("start",), ("start", "disk", "qemu"), ("start", "disk", "user", "qemu")]


# ------------------------------------------------------------------------------------------------------ interrupted

RUN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from conformance.lab import definition, disk, emulator, packages, startup
from conformance.media import probe as probe_media
from conformance.util import signals
probe_media.ensure = lambda _: None
made = disk.Disk(Path(sys.argv[1]))
emulator.ensure = lambda *_: emulator.Emulator(sys.argv[2], "tcg", "0, pretended")
packages.require = lambda *_: None
if sys.argv[3] == "disk":
    disk._repository = lambda host, folder, *_: folder
    disk._keys = lambda *_: None
else:
    disk.ensure = lambda *_: made
with signals.as_ctrl_c():
    startup.start(definition.load(), print, keep=sys.argv[3] == "keep")
    print("up", flush=True)
    time.sleep(60)
"""


def hear() -> None:
    """In the background of a shell a process starts deaf to ctrl-C, under nohup to SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Other:
    """Another process that starts a lab."""

    def __init__(self, tools: Tools, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tools.made.folder), tools.qemu.program, what],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=hear,
        )

    def end(self, sent: signal.Signals) -> str:
        self.process.send_signal(sent)
        output, _ = self.process.communicate(timeout=40)
        assert self.process.returncode != 0
        return output


def inside(folder: Path) -> list[str]:
    """Return the command lines of the processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("sent", ALL)
def test_nothing_is_left_of_one_that_is_interrupted_before_it_is_up(
    tools: Tools, runs: Path, sent: signal.Signals
) -> None:
    tools.program("ssh", "exit 255")
    other = Other(tools, "keep")
    wait_for("QEMU", lambda: any(runs.glob("*/monitor")), seconds=20)
    other.end(sent)
    assert not list(runs.iterdir())
    assert not inside(runs)
    assert {one.name for one in tools.made.folder.iterdir()} == {*disk.FILES, "state.lock"}


@pytest.mark.parametrize("sent", ALL)
def test_nothing_is_left_of_a_state_whose_saving_is_interrupted(
    tools: Tools, runs: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    monkeypatch.setenv("QEMU", "saves-for-ever")
    other = Other(tools, "keep")
    wait_for("the state", lambda: any(runs.glob("*/saved/memory")), seconds=20)
    other.end(sent)
    assert not list(runs.iterdir())
    assert not inside(runs)
    assert {one.name for one in tools.made.folder.iterdir()} == {*disk.FILES, "state.lock"}


def test_one_that_is_not_kept_is_killed_with_its_process_and_then_swept_away(tools: Tools, runs: Path) -> None:
    other = Other(tools, "run")
    wait_for("QEMU", lambda: any(one.state() == "running" for one in machine.running()), seconds=20)
    other.end(signal.SIGKILL)
    wait_for("the lab's end", lambda: not inside(runs), seconds=30)
    assert machine.running() == []
    assert not list(runs.iterdir())


@pytest.fixture
def making(tools: Tools, cache: Path) -> Callable[[], Path]:
    """Say where a disk is being made, by a mmdebstrap that takes for ever."""
    for name in disk.FILES:
        (tools.made.folder / name).unlink()
    tools.program("mmdebstrap", f"sleep 60 & echo begun >{cache}/begun; wait")

    def where() -> Path:
        wait_for("mmdebstrap", (cache / "begun").exists, seconds=20)
        (folder,) = (cache / "lab").glob("debian-13-making-*/")
        return folder

    return where


@pytest.mark.parametrize("sent", ALL)
def test_nothing_is_left_of_a_disk_whose_making_is_interrupted(
    tools: Tools, cache: Path, making: Callable[[], Path], sent: signal.Signals
) -> None:
    other = Other(tools, "disk")
    folder = making()
    other.end(sent)
    assert not folder.exists()
    assert not inside(folder)
    assert {one.name for one in (cache / "lab").iterdir()} <= {
        "debian-13.lock", "debian-13-make.log", tools.made.folder.name, "run"
    }  # fmt: skip


def test_what_a_killed_making_left_is_removed_by_the_next(
    tools: Tools, cache: Path, making: Callable[[], Path]
) -> None:
    other = Other(tools, "disk")
    folder = making()
    other.end(signal.SIGKILL)
    wait_for("mmdebstrap's end", lambda: not inside(folder), seconds=30)
    assert folder.exists()
    for name in disk.FILES:
        (tools.made.folder / name).touch()
    assert disk.ensure(HOST, lambda _: None) == tools.made
    assert not folder.exists()


def test_a_rebuild_removes_this_hosts_disks_and_no_others(tools: Tools, cache: Path) -> None:
    old, other = (cache / "lab" / name for name in ("debian-13-0123456789ab", "debian-12-0123456789ab"))
    for folder in (old, other):
        folder.mkdir()
    disk.remove(HOST, lambda _: None)
    assert not old.exists()
    assert not tools.made.folder.exists()
    assert other.exists()
