"""Getting ready: whatever ends it, what it made is removed."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from conformance.engine import client, image
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, EngineGone, HarnessError, MediaError, Unsupported
from conformance.host.kvm import HostKvm
from conformance.host.pci import PciPool
from conformance.media import probe as probe_media
from conformance.model import mode
from conformance.model.contract import Contract
from conformance.run import cleanup, context, preparation
from conformance.util import logs
from conformance.util.progress import Progress


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs whose things were removed."""
    ids: list[str] = []
    monkeypatch.setattr(client, "connect", lambda _: Engine(None, "", {"Name": "elsewhere"}, "docker 1.0"))  # type: ignore[arg-type]
    monkeypatch.setattr(cleanup, "sweep", lambda _client: [])
    monkeypatch.setattr(cleanup, "remove", lambda _client, one: ids.append(one))
    monkeypatch.setattr(image, "ensure_image", lambda *_: image.ImageInfo("libvirt:1", "sha256:0", "debian", ""))
    monkeypatch.setattr(HostShell, "output", lambda *_, **__: "libvirtd (libvirt) 11.3.0")
    return ids


def prepare(contract: Contract, results: Path, choice: Any = "auto", host_name: str = "host", **more: Any) -> Any:
    more = {"progress": Progress(quiet=True)} | more
    return preparation.prepare(contract, tag=None, choice=choice, results=results, host_name=host_name, **more)


class Asked:
    """A question that is answered in a way."""

    started = cancelled = False

    def __init__(self, *_: Any) -> None: ...

    def start(self) -> None:
        type(self).started = True

    def cancel(self) -> None:
        type(self).cancelled = True

    def result(self) -> HostKvm:
        return HostKvm(False, "the host has no /dev/kvm")


@pytest.fixture
def asked(removed: list[str], monkeypatch: pytest.MonkeyPatch) -> type[Asked]:
    """What is asked of the host's KVM; it cannot be used."""
    one = type("One", (Asked,), {})
    monkeypatch.setattr(preparation, "KvmProbe", one)
    monkeypatch.setattr(probe_media, "ensure", lambda _progress: None)
    return one


@pytest.mark.usefixtures("asked", "removed")
def test_a_leftover_that_was_removed_has_its_whole_name_in_a_pipe(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "container " + "x" * 200
    monkeypatch.setattr(cleanup, "sweep", lambda _client: [name])
    pipe = io.StringIO()
    prepare(contract, tmp_path, progress=Progress(pipe))
    assert f"removed a leftover of a killed run: {name}\n" in pipe.getvalue()


@pytest.mark.usefixtures("asked", "removed")
def test_a_part_of_a_run_logs_into_the_folder_of_the_whole_run(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places: list[tuple[str, str]] = []
    monkeypatch.setattr(logs, "write_to", lambda run, worker="": places.append((run, worker)))
    alone, part = prepare(contract, tmp_path), prepare(contract, tmp_path, recorded_as="whole")
    assert places == [(alone.id, ""), ("whole", part.id)]


def test_what_is_ready_does_not_wait_for_the_hosts_kvm(
    contract: Contract, removed: list[str], asked: type[Asked], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(_self: object) -> HostKvm:
        raise AssertionError("it was waited for")

    with monkeypatch.context() as patch:
        patch.setattr(asked, "result", never)
        ready = prepare(contract, tmp_path)
    assert asked.started
    assert not removed
    assert ready.host.fingerprint["kvm"] == "the host has no /dev/kvm"

    ready.close()

    assert asked.cancelled
    assert removed == [ready.id]


def test_a_kvm_that_was_demanded_and_cannot_be_had_ends_it_before_anything(
    contract: Contract, removed: list[str], asked: type[Asked], tmp_path: Path
) -> None:
    with pytest.raises(HarnessError, match=r"--accel kvm.*: the host has no /dev/kvm(.|\n)*--accel auto"):
        prepare(contract, tmp_path, "kvm")
    assert asked.cancelled
    assert len(removed) == 1


def test_an_engine_that_refuses_the_question_costs_no_record(
    contract: Contract, asked: type[Asked], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(_self: object) -> HostKvm:
        raise EngineError("the engine refused")

    monkeypatch.setattr(asked, "result", refused)
    ready = prepare(contract, tmp_path)
    assert ready.host.fingerprint["kvm"] == "not tested: the engine refused"
    with pytest.raises(EngineError):
        _ = ready.kvm


@pytest.mark.usefixtures("asked")
def test_a_mode_that_differs_by_apparmor_alone_needs_a_host_that_has_it(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(context.Run, "_relay", None)
    ready = prepare(contract, tmp_path)
    confined = dataclasses.replace(ready, fingerprint=dataclasses.replace(ready.fingerprint, security=("apparmor",)))
    twin, other = (mode.from_contract(contract, f"unprivileged-{name}") for name in ("unconfined", "macvtap"))

    with pytest.raises(Unsupported, match=r"unprivileged.*without AppArmor"):
        ready.container(twin, network="")
    with pytest.raises(Unsupported, match="no driver macvtap"):
        ready.container(other, network="")
    assert confined.container(twin, network="").mode == twin


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("outer", "choice", "unbootable_reason"),
    [
        ("emulation (TCG), QEMU 7.2.22, mended", "auto", True),
        ("emulation (TCG), QEMU 7.2.22, mended", "tcg", False),
        ("KVM, QEMU 7.2.22", "auto", False),
        ("", "auto", False),
    ],
)
def test_an_emulated_machine_is_not_asked_to_emulate(
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    outer: str,
    choice: str,
    *,
    unbootable_reason: bool,
) -> None:
    monkeypatch.setattr(context.Run, "_relay", None)
    ready = dataclasses.replace(prepare(contract, tmp_path, choice), host_facts={"outer": outer} if outer else {})
    container = ready.container(mode.from_contract(contract, "required-only"), network="")
    assert bool(ready.unbootable_reason_in(container)) is unbootable_reason


@pytest.mark.usefixtures("asked")
def test_pci_devices_are_bound_for_the_modes_that_expose_them_only(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, removed: list[str], tmp_path: Path
) -> None:
    calls: list[str] = []

    def bind(_self: PciPool) -> tuple[str, ...]:
        calls.append("bind")
        return ("/dev/vfio/7",)

    monkeypatch.setattr(context.Run, "_relay", None)
    monkeypatch.setattr(PciPool, "bind", bind)
    monkeypatch.setattr(PciPool, "restore", lambda _self: calls.append("restore"))
    ready = prepare(contract, tmp_path)

    bound = ready.container(mode.from_contract(contract, "unprivileged-passthrough"), network="")
    assert (calls, bound.mode.groups) == (["bind"], ("/dev/vfio/7",))
    assert ready.container(mode.from_contract(contract, "privileged-passthrough"), network="").mode.groups == ()
    assert calls == ["bind", "restore"]
    ready.close()
    assert removed == [ready.id]  # which gives back whatever the engine remembers as bound


@pytest.mark.usefixtures("asked")
def test_a_mode_that_exposes_pci_devices_cannot_be_asked_without_an_iommu(contract: Contract, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no IOMMU"):
        prepare(contract, tmp_path).container(mode.from_contract(contract, "unprivileged-passthrough"), network="")


@pytest.mark.parametrize("name", ["a/b", "", "-x", "a b"])
def test_a_host_name_that_is_none_is_said_before_any_work(
    contract: Contract, removed: list[str], tmp_path: Path, name: str
) -> None:
    with pytest.raises(HarnessError, match="--host-name"):
        prepare(contract, tmp_path, host_name=name)
    assert not removed


@pytest.mark.parametrize("end", [KeyboardInterrupt(), MediaError("no mirror"), ZeroDivisionError()])
def test_what_was_made_is_removed(
    contract: Contract, removed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: BaseException
) -> None:
    def stop(_progress: object) -> None:
        raise end

    monkeypatch.setattr(probe_media, "ensure", stop)
    with pytest.raises(type(end)):
        prepare(contract, tmp_path)
    assert len(removed) == 1
    assert not list(tmp_path.iterdir())


def test_a_clean_up_that_fails_does_not_hide_what_went_wrong(
    contract: Contract, removed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(_progress: object) -> None:
        raise MediaError("no mirror")

    def gone(_client: object, _run: str) -> None:
        raise EngineGone("the engine no longer answers")

    monkeypatch.setattr(probe_media, "ensure", stop)
    monkeypatch.setattr(cleanup, "remove", gone)
    with pytest.raises(MediaError):
        prepare(contract, tmp_path)


def test_an_image_that_wants_to_know_who_comes_cannot_be_asked(
    contract: Contract, asked: type[Asked], tmp_path: Path
) -> None:
    claims = contract.model_copy(update={"image": contract.image.model_copy(update={"auth": "sasl"})})
    with pytest.raises(Unsupported, match="SASL"):
        prepare(claims, tmp_path).container(mode.from_contract(claims, "unprivileged"), network="bridge")
