import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from conformance.engine.host_shell import HostShell
from conformance.errors import EngineGone
from conformance.host import kvm
from conformance.host.kvm import KvmProbe
from conformance.media.probe import Probe

BOOTED = '@probe {"nonce":"kvm","seq":0,"event":"boot","cpuid_signature":"KVMKVMKVM"}'


def test_a_kernel_that_reports_under_kvm_makes_it_usable() -> None:
    seen = kvm.judge(f"noise\n{BOOTED}\n")
    assert seen
    assert seen.usable


@pytest.mark.parametrize(
    "output",
    [
        "KVM internal error. Suberror: 1\nemulation failure\nRAX=0000",
        "qemu-system-x86_64: Could not access KVM kernel module: Permission denied",
        "qemu-system-x86_64: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
    ],
)
def test_what_the_host_cannot_do_is_told_in_its_own_words(output: str) -> None:
    seen = kvm.judge(output)
    assert seen
    assert not seen.usable
    assert output.splitlines()[0].rpartition(": ")[2] in seen.seen


def test_a_qemu_without_kvm_is_the_images_fault_and_not_the_hosts() -> None:
    seen = kvm.judge("qemu-system-x86_64: invalid accelerator kvm")
    assert seen
    assert seen.usable


def test_a_guest_under_emulation_decides_nothing() -> None:
    assert kvm.judge(BOOTED.replace("KVMKVMKVM", "TCGTCGTCGTCG")) is None
    assert kvm.judge("SeaBIOS") is None


class Api:
    """An engine with one container at most, whose log is what QEMU writes."""

    def __init__(self, output: str = "") -> None:
        self.output = output
        self.there: list[str] = []
        self.watched = threading.Event()

    def create_host_config(self, **_: Any) -> dict[str, Any]:
        return {}

    def create_container(self, image: str, **_: Any) -> dict[str, str]:
        self.there.append(image)
        return {"Id": image}

    def put_archive(self, *_: Any) -> None: ...

    def start(self, container: str) -> None: ...

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"State": {"Running": True}}

    def logs(self, container: str) -> bytes:
        self.watched.set()
        return self.output.encode()

    def remove_container(self, container: str, v: bool, force: bool) -> None:
        self.there.remove(container)


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """Files that stand for the probe's media."""
    one = tmp_path / "medium"
    one.write_bytes(b"medium")
    return Probe(kernel=one, initrd=one, iso=one, signed_iso=one, peer=one, recipe="")


@pytest.fixture
def ask(probe: Probe) -> Iterator[Any]:
    """Asks a host's KVM through an engine; every question is ended."""
    made: list[KvmProbe] = []

    def ask(api: Any) -> KvmProbe:
        client: Any = type("Client", (), {"api": api})()
        made.append(KvmProbe(HostShell(client, "image", "run"), probe))
        made[-1].start()
        return made[-1]

    yield ask
    for one in made:
        one.cancel()


def test_the_answer_is_there_when_it_is_asked_for_and_nothing_is_left(ask: Any) -> None:
    api = Api(f"{BOOTED}\n")
    asking = ask(api)
    assert asking.result().usable
    assert asking.result() is asking.result()
    asking.cancel()
    assert api.there == []


def test_an_error_is_raised_where_the_answer_is_needed(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: str, **_: Any) -> None:
        raise requests.exceptions.ConnectionError("connection refused")

    api = Api()
    monkeypatch.setattr(api, "create_container", refuse)
    asking = ask(api)
    for _ in range(2):
        with pytest.raises(EngineGone, match="connection refused"):
            asking.result()


def test_a_result_that_comes_late_is_unknown_for_now(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "SOON_SECONDS", 0.05)
    assert ask(Api()).known() is None


def test_an_error_of_the_engine_is_left_to_the_checks_that_need_kvm(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: str, **_: Any) -> None:
        raise requests.exceptions.ConnectionError("connection refused")

    api = Api()
    monkeypatch.setattr(api, "create_container", refuse)
    assert ask(api).known() is None


def test_a_result_that_is_there_is_known(ask: Any) -> None:
    assert ask(Api(f"{BOOTED}\n")).known().usable


def test_a_question_that_is_withdrawn_leaves_nothing(ask: Any) -> None:
    api = Api("SeaBIOS")
    asking = ask(api)
    assert api.watched.wait(10)
    assert api.there
    asking.cancel()
    assert api.there == []


def test_what_is_withdrawn_while_the_engine_makes_it_is_taken_away(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    creating, go_on = threading.Event(), threading.Event()
    api = Api("SeaBIOS")
    create = api.create_container

    def slow(image: str, **more: Any) -> dict[str, str]:
        creating.set()
        assert go_on.wait(10)
        return create(image, **more)

    monkeypatch.setattr(api, "create_container", slow)
    asking = ask(api)
    assert creating.wait(10)
    threading.Timer(0.2, go_on.set).start()
    asking.cancel()
    assert api.there == []
    assert not api.watched.is_set(), "it was started all the same"


def test_an_engine_that_never_answers_has_a_deadline(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "ANSWER_SECONDS", 0.1)
    with pytest.raises(EngineGone, match="did not finish"):
        ask(Api("SeaBIOS")).result()


def test_a_question_that_never_began_can_be_withdrawn(probe: Probe) -> None:
    KvmProbe(HostShell(None, "image", "run"), probe).cancel()  # type: ignore[arg-type]
