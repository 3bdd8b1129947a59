"""One matrix spread over sessions, which are only told of: what all of them come to."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance.engine import client as engine
from conformance.engine import image
from conformance.engine.image import ImageInfo
from conformance.errors import BadOption, HarnessError
from conformance.media import probe as probe_media
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Host, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.run import limits
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.workers import hosts
from conformance.workers.hosts import EngineTarget, MatrixRun
from conformance.workers.pool import RunSettings, Task
from conformance.workers.selection import Selection

Make = Callable[..., Record]

FINGERPRINT = HostFingerprint("6.1", 2, ("seccomp",), "docker 26.1.5", "Debian", "x86_64", "CPU", 2)

HERE = EngineTarget("unix:///here.sock")
LAB = EngineTarget("unix:///lab.sock", "lab-1", {"outer": "TCG"}, ("--ready-seconds=240",))


class Engine:
    """An engine on which nothing is made."""

    client = None

    def __init__(self, address: str) -> None:
        self.address = address

    def fingerprint(self) -> HostFingerprint:
        return FINGERPRINT


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines on which our image was built."""
    done: list[str] = []
    monkeypatch.setattr(engine, "connect", Engine)
    made = ImageInfo("libvirt:1", "sha256:0", "debian", "")

    def ensure(where: Engine, _progress: object) -> ImageInfo:
        done.append(where.address)
        return made

    monkeypatch.setattr(image, "ensure_image", ensure)
    monkeypatch.setattr(image, "find", lambda _engine, tag: made if tag == "theirs:1" else None)
    monkeypatch.setattr(limits, "unsupported", lambda *_: {})
    monkeypatch.setattr(probe_media, "ensure", lambda _progress: None)
    monkeypatch.setattr(hosts, "peer_image", lambda _client, _probe: "peer")
    return done


@pytest.fixture
def led(monkeypatch: pytest.MonkeyPatch, make_record: Make, tmp_path: Path) -> list[tuple[list[Task], RunSettings]]:
    """What was led; each part records that it works, unless a test says otherwise by `verdicts`."""
    done: list[tuple[list[Task], RunSettings]] = []

    class Parts:
        def __init__(self, parts: Sequence[Task], shared: RunSettings, *_: Any) -> None:
            done.append((list(parts), shared))

        def run(self) -> int:
            parts, shared = done[-1]
            for part, mode in ((one, mode) for one in parts for mode in one.modes):
                verdict = verdicts.get((part.host.name, mode), Verdict.WORKS)
                host = Host(name=part.host.name, fingerprint={})
                record = make_record(run=shared.run, host=host, mode=mode, feature="api", verdict=verdict)
                Recorder(paths.run_folder(shared.run), part.host.name, shared.run).append(record)
            return statuses.pop() if statuses else 0

        reached = (0, 0)

    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path)
    monkeypatch.setattr(hosts, "WorkerPool", Parts)
    return done


verdicts: dict[tuple[str, str], Verdict] = {}
statuses: list[int] = []


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    verdicts.clear()
    statuses.clear()


@pytest.fixture
def said() -> list[str]:
    """What people read."""
    return []


Ready = Callable[..., MatrixRun]


@pytest.fixture
def ready(built: list[str], led: object, said: list[str]) -> Ready:
    """Makes a spread that is ready on some places."""

    def ready(*places: EngineTarget, words: tuple[str, ...] = (), at_once: int = 2, **changes: Any) -> MatrixRun:
        given: dict[str, Any] = {
            "cells": {("api", "unprivileged"), ("api", "least")},
            "modes": ("unprivileged", "least"),
            "verbose": 0,
            "modes_by_host": False,
            "without": (),
            "contract": paths.CONTRACT,
            "required": (),
            "image": None,
            "host_name": None,
            "results": None,
            "junit": None,
            "pci_devices": (),
            "pci_modes": (),
            "max_failures": 0,
        }
        given |= changes
        given["checks"] = dict.fromkeys((mode for _, mode in given["cells"]), 1)
        made = MatrixRun(Selection(**given), words, at_once, Progress(quiet=True), said.append)
        made.prepare(places)
        return made

    return ready


def test_each_mode_on_each_host_is_a_part_and_all_are_one_run(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], said: list[str]
) -> None:
    status, records = ready(HERE, LAB, words=("-m", "api"), at_once=3).run()
    ((parts, shared),) = led
    assert status == 0
    assert {(part.host.name, part.host.address, *part.modes) for part in parts} == {
        (name, address, mode)
        for name, address in (("docker-26.1-cgroup2", HERE.address), ("lab-1", LAB.address))
        for mode in ("unprivileged", "least")
    }
    assert (shared.arguments, shared.at_once, shared.first_failure_ends) == (("-m", "api", "-q", "-q"), 3, False)
    assert {one.run for one in records} == {shared.run}
    assert len(records) == 4
    assert said[0].startswith("all modes and hosts\ndocker-26.1-cgroup2: libvirt:1\n")
    assert "lab-1: libvirt:1" in said[0]


def test_each_host_tests_its_recommended_mode(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def fingerprint(engine: Engine) -> HostFingerprint:
        return replace(FINGERPRINT, security=("apparmor",)) if engine.address == LAB.address else FINGERPRINT

    monkeypatch.setattr(Engine, "fingerprint", fingerprint)
    modes = ("least", "least-apparmor", "unprivileged-unlabelled")
    cells = {("api", one) for one in modes}
    status, _ = ready(HERE, LAB, cells=cells, modes=modes, modes_by_host=True, required=("api",)).run()
    assert {(part.host.address, *part.modes) for part in led[0][0]} == {
        (HERE.address, "least"),
        (LAB.address, "least-apparmor"),
    }
    assert status == 0, f"nothing else was required: {said}"


def test_a_mode_without_a_part_is_tested_as_its_mode(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], said: list[str]
) -> None:
    reduced = "least-without-NET_RAW"
    ready(HERE, cells={("api", reduced)}, modes=("least",), without=("NET_RAW",), required=("api",)).run()
    assert [part.modes for part in led[0][0]] == [("least",)]
    assert said[-1].startswith(f"required, but missing: api in {reduced}: "), "records have the whole name"


def test_a_mode_without_selected_cells_has_no_session(ready: Ready, led: list[tuple[list[Task], RunSettings]]) -> None:
    ready(HERE, cells={("api", "least")}).run()
    assert [part.modes for part in led[0][0]] == [("least",)]


def test_modes_that_cannot_run_have_one_session_that_records_them(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "unsupported", lambda *_: {"privileged": "refused", "unprivileged-apparmor": "same"})
    modes = ("privileged", "least", "unprivileged-apparmor")
    ready(HERE, modes=modes, cells={("api", mode) for mode in modes}).run()
    assert [(part.modes, part.runs) for part in led[0][0]] == [
        (("least",), True),
        (("privileged", "unprivileged-apparmor"), False),
    ]


@pytest.mark.parametrize(("verbose", "words"), [(1, ()), (0, ("-q", "-q")), (-1, ("-q",)), (-2, ())])
def test_sessions_print_only_failures_unless_the_user_wants_more(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], verbose: int, words: tuple[str, ...]
) -> None:
    ready(HERE, verbose=verbose).run()
    assert led[0][1].arguments == words


def test_a_host_has_its_own_options_and_its_name(ready: Ready, led: list[tuple[list[Task], RunSettings]]) -> None:
    ready(HERE).run()
    ready(HERE, host_name="mine").run()
    ready(HERE, LAB).run()
    words = [{part.host.arguments for part in parts} for parts, _ in led]
    assert words[0] == {("--libvirt-host-name=docker-26.1-cgroup2",)}
    assert words[1] == {("--libvirt-host-name=mine",)}
    lab = ("--libvirt-host-name=lab-1", "--libvirt-host-fact=outer=TCG", "--ready-seconds=240")
    assert (*lab, "--libvirt-host-name=lab-1", "-o", "junit_suite_name=lab-1") in words[2]


NETWORK, DEVICES = frozenset({"the host's network"}), frozenset({"the host's devices"})


@pytest.mark.parametrize(
    ("asked", "named", "alone"),
    [
        ("least", (), frozenset()),
        ("unprivileged-hostnet", (), NETWORK),
        ("unprivileged-hostnet", ("0000:00:04.0",), NETWORK | DEVICES),
        ("least", ("0000:00:04.0",), frozenset()),
        ("unprivileged-passthrough", ("0000:00:04.0",), DEVICES),
        ("unprivileged-passthrough", (), frozenset()),
    ],
)
def test_the_hosts_network_and_its_spare_devices_are_had_alone(
    ready: Ready, led: list[tuple[list[Task], RunSettings]], asked: str, named: tuple[str, ...], alone: frozenset[str]
) -> None:
    asks = {"cells": {("api", asked)}, "modes": (asked,), "pci_modes": {"unprivileged-hostnet"}}
    ready(HERE, pci_devices=named, **asks).run()
    lab = EngineTarget("unix:///lab.sock", "lab-1", {}, tuple(f"--pci-device={address}" for address in named))
    ready(lab, **asks).run()
    assert [part.exclusive for parts, _ in led for part in parts] == [alone, alone]


def test_the_image_is_built_once_on_each_host_before_any_session(ready: Ready, built: list[str]) -> None:
    ready(HERE, LAB)
    assert built == [HERE.address, LAB.address]
    built.clear()
    ready(HERE, image="theirs:1")
    with pytest.raises(BadOption, match="nosuch:tag"):
        ready(HERE, image="nosuch:tag")
    assert not built, "theirs is taken as it is"


def test_a_host_on_which_nothing_can_be_made_is_told_at_once(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_where: object, _progress: object) -> None:
        raise HarnessError("the build failed")

    monkeypatch.setattr(image, "ensure_image", refuse)
    with pytest.raises(HarnessError, match="the build failed"):
        ready(HERE)


def test_only_the_first_failure_ends_all(ready: Ready, led: list[tuple[list[Task], RunSettings]]) -> None:
    for failures in (0, 1, 2):
        ready(HERE, max_failures=failures).run()
    assert [shared.first_failure_ends for _, shared in led] == [False, True, False]


# ------------------------------------------------------------------------------------- what is required


def test_what_is_required_and_decided_is_well(ready: Ready, said: list[str]) -> None:
    assert ready(HERE, LAB, required=("api", "least", "seccomp")).run()[0] == 0
    assert not any(text.startswith("required") for text in said)


def test_what_is_required_is_looked_for_in_each_mode_on_each_host(ready: Ready, said: list[str]) -> None:
    verdicts["lab-1", "least"] = Verdict.UNSUPPORTED
    assert ready(HERE, LAB, required=("api",)).run()[0] == 1
    assert [text for text in said if text.startswith("required")] == [
        "required, but missing: lab-1: api in least: unsupported: "
    ]


@pytest.mark.parametrize(
    ("required", "told"),
    [
        ("privileged", "mode privileged: no feature was selected in it"),
        ("cgroup1", "cgroup1: the host's engine does not report it"),
        ("kvm", "kvm in unprivileged: not run: it was not selected"),
    ],
)
def test_what_no_session_was_asked_is_missing(ready: Ready, said: list[str], required: str, told: str) -> None:
    statuses.append(5)
    assert ready(HERE, required=(required,)).run()[0] == 1
    assert f"required, but missing: {told}" in said


@pytest.mark.parametrize("status", [2, 6])
def test_a_run_that_did_not_come_to_its_end_keeps_its_status(ready: Ready, said: list[str], status: int) -> None:
    statuses.append(status)
    assert ready(HERE, required=("kvm",)).run()[0] == status
    assert any(text.startswith("required") for text in said) is (status != 2)
