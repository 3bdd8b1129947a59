import dataclasses
import functools
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, EngineGone
from conformance.host import apparmor, cgroup_options, network_leftovers, network_lock, vfio
from conformance.run import cleanup


class Api:
    """An engine with things on it."""

    def __init__(self, *runs: str) -> None:
        self.things = [
            {
                "Id": f"id-{run}",
                "Name": f"name-{run}",
                "Names": [f"/name-{run}"],
                "State": "running",
                "Labels": {labels.RUN: run},
            }
            for run in runs
        ]
        self.calls: list[str] = []

    def containers(self, all: bool, filters: dict[str, str]) -> list[dict[str, Any]]:  # noqa: A002
        return self._of(filters)

    def networks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        return self._of(filters)

    def volumes(self, filters: dict[str, str]) -> dict[str, Any]:
        return {"Volumes": self._of(filters) or None}

    def images(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        return self._of(filters)

    def _of(self, filters: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = filters["label"]
        _, _, run = (wanted if isinstance(wanted, str) else wanted[0]).partition("=")
        return [thing for thing in self.things if not run or thing["Labels"][labels.RUN] == run]  # type: ignore[index]

    def stop(self, container: str, timeout: int) -> None:
        self.calls.append(f"stop {container}")

    def remove_container(self, container: str, v: bool, force: bool) -> None:
        assert v
        self.calls.append(f"remove {container}")

    def remove_network(self, network: str) -> None:
        self.calls.append(f"remove network {network}")

    def remove_volume(self, volume: str, force: bool) -> None:
        self.calls.append(f"remove volume {volume}")

    def remove_image(self, image: str, force: bool, noprune: bool) -> None:
        self.calls.append(f"remove image {image}")


def client(api: Api) -> Any:
    here = os.uname()
    info = {"Name": here.nodename, "KernelVersion": here.release}
    return type("Client", (), {"api": api, "info": lambda _self: info})()


def dead_run() -> str:
    own = labels.new_run()
    return f"{own.rpartition('-')[0]}-4194999"  # beyond the kernel's largest process id


def test_a_run_takes_only_its_own() -> None:
    api = Api("mine", "others")
    gone = cleanup.remove(client(api), "mine")
    assert gone == ["container name-mine", "network name-mine", "volume name-mine", "image id-mine"]
    # It may end by itself first: in the host's network it takes its links and rules along.
    assert api.calls[:2] == ["stop id-mine", "remove id-mine"]
    assert not any("others" in call for call in api.calls)


def test_nothing_left_is_nothing_said() -> None:
    assert cleanup.remove(client(Api()), "mine") == []


def test_what_dead_runs_left_is_swept_and_the_living_are_left_alone() -> None:
    living, elsewhere = labels.new_run(), f"20260101T000000Z-ffffff-{os.getpid()}0"
    api = Api(dead_run(), living, elsewhere, "")
    gone = cleanup.sweep(client(api))
    assert len(gone) == 4
    assert all("4194999" in line for line in gone)


def test_a_run_knows_its_machine_and_process() -> None:
    run = labels.new_run()
    assert labels.made_here(run)
    assert labels.alive(run)
    assert not labels.alive(dead_run())
    assert not labels.made_here("20260101T000000Z-ffffff-1")
    assert not labels.made_here("nonsense")


def test_a_process_that_got_the_number_of_a_dead_run_is_not_that_run() -> None:
    machine = labels.new_run().split("-")[1]
    assert not labels.alive(f"20200101T000000Z-{machine}-{os.getpid()}")
    assert labels.alive(labels.new_run())


def test_machines_of_one_name_do_not_take_each_others_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.node", lambda: "runner")
    for folder in ("one", "other"):
        (tmp_path / folder).write_text(f"{folder}\n")
    monkeypatch.setattr(labels, "MACHINE_ID", tmp_path / "one")
    run = labels.new_run()
    monkeypatch.setattr(labels, "MACHINE_ID", tmp_path / "other")
    assert not labels.made_here(run)


def test_without_a_machine_id_the_host_name_names_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(labels, "MACHINE_ID", tmp_path / "missing")
    run = labels.new_run()
    assert labels.made_here(run)
    monkeypatch.setattr("platform.node", lambda: "another")
    assert not labels.made_here(run)


def test_a_clones_living_run_is_not_taken_and_one_of_an_earlier_boot_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "boot").write_text("another boot\n")
    monkeypatch.setattr(labels, "BOOT_ID", tmp_path / "boot")
    clones = labels.new_run()
    monkeypatch.undo()
    assert labels.made_here(clones)
    assert labels.alive(clones)
    assert not labels.alive(f"20200101T000000Z-{clones.split('-')[1]}-1")


class Refusal(docker.errors.APIError):
    """A refusal with an HTTP status."""

    def __init__(self, status: int, explanation: str) -> None:
        super().__init__(explanation, explanation=explanation)
        self.status = status

    @property
    def status_code(self) -> int:
        return self.status


def test_what_cannot_be_removed_is_named_and_does_not_keep_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api("mine")

    def refuse(network: str) -> None:
        raise Refusal(500, "has active endpoints")

    monkeypatch.setattr(api, "remove_network", refuse)
    with pytest.raises(EngineError, match=r"does not remove network name-mine \(has active endpoints\)"):
        cleanup.remove(client(api), "mine")
    assert api.calls[-2:] == ["remove volume name-mine", "remove image id-mine"]


def test_what_another_run_is_removing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api("mine")
    answers: list[Exception] = [Refusal(409, "already in progress"), docker.errors.NotFound("no such container")]

    def refuse(container: str, v: bool, force: bool) -> None:
        raise answers.pop(0)

    monkeypatch.setattr(api, "remove_container", refuse)
    assert cleanup.remove(client(api), "mine") == ["network name-mine", "volume name-mine", "image id-mine"]
    assert not answers


def test_a_conflict_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api("mine")

    def refuse(volume: str, force: bool) -> None:
        raise Refusal(409, "volume is in use")

    monkeypatch.setattr(api, "remove_volume", refuse)
    monkeypatch.setattr(cleanup, "REMOVE_SECONDS", 0)
    with pytest.raises(EngineError, match="volume is in use"):
        cleanup.remove(client(api), "mine")


def test_an_engine_that_is_gone_ends_the_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api("mine")

    def refuse(container: str, timeout: int) -> None:
        raise requests.exceptions.ConnectionError("connection refused")

    monkeypatch.setattr(api, "stop", refuse)
    with pytest.raises(EngineGone, match="no longer answers"):
        cleanup.remove(client(api), "mine")


# ---------------------------------------------------------------------------------------- the host's network


def replace(monkeypatch: pytest.MonkeyPatch, kind: Any, restore: Callable[[HostShell, str], str]) -> None:
    """Restore one kind of change as a test wants it."""
    mine = dataclasses.replace(kind.CHANGE, restore=restore)
    monkeypatch.setattr(cleanup, "CHANGES", tuple(mine if one == kind.CHANGE else one for one in cleanup.CHANGES))
    monkeypatch.setattr(kind, "CHANGE", mine)


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs whose traces in the host's network were taken away; the lock is a test's own."""
    runs: list[str] = []

    def restore(shell: HostShell, _remembered: str) -> str:
        runs.append(shell.run_id)
        return "in the host's network: virbr0"

    replace(monkeypatch, network_leftovers, restore)
    address = f"\0conformance-test-{secrets.token_hex(8)}"
    monkeypatch.setattr(network_lock, "address", lambda _info: address)
    monkeypatch.setattr(network_lock, "held", functools.partial(network_lock.held, address=address))
    return runs


def marked(run: str) -> Api:
    api = Api(run)
    api.things[0]["Labels"] |= {labels.HOST_BEFORE: "{}", labels.IMAGE: "image"}  # type: ignore[operator]
    return api


def test_a_killed_runs_traces_in_the_hosts_network_go_before_what_remembers_them(given_back: list[str]) -> None:
    run = dead_run()
    api = marked(run)
    gone = cleanup.sweep(client(api))
    assert given_back == [run]
    assert gone[2:4] == ["in the host's network: virbr0", f"volume name-{run}"]
    assert f"remove volume name-{run}" in api.calls


def test_options_that_a_killed_run_took_from_the_host_go_before_what_remembers_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = marked("run")
    marks = api.things[0]["Labels"]
    del marks[labels.HOST_BEFORE]  # type: ignore[attr-defined]
    marks[labels.DELEGATION] = "nsdelegate"  # type: ignore[index]
    given: list[tuple[str, bool]] = []

    def restore(_shell: HostShell, remembered: str) -> str:
        given.append((remembered, "remove volume name-run" in api.calls))
        return ""

    replace(monkeypatch, cgroup_options, restore)
    cleanup.remove(client(api), "run")
    assert given == [("nsdelegate", False)]
    assert "remove volume name-run" in api.calls


def test_a_profile_that_a_killed_run_loaded_goes_before_what_remembers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    api = marked("run")
    marks = api.things[0]["Labels"]
    del marks[labels.HOST_BEFORE]  # type: ignore[attr-defined]
    marks[labels.PROFILE] = "libvirt-container"  # type: ignore[index]
    unloaded: list[str] = []

    def restore(_shell: HostShell, remembered: str) -> str:
        unloaded.append(remembered)
        return f"AppArmor profile {remembered}"

    replace(monkeypatch, apparmor, restore)
    removed = cleanup.remove(client(api), "run")
    assert unloaded == ["libvirt-container"]
    assert removed[2:4] == ["AppArmor profile libvirt-container", "volume name-run"]


@pytest.mark.parametrize("obeys", [True, False])
def test_a_device_that_a_killed_run_took_goes_back_before_what_remembers_it(
    monkeypatch: pytest.MonkeyPatch, obeys: bool
) -> None:
    run = dead_run()
    api = marked(run)
    marks = api.things[0]["Labels"]
    del marks[labels.HOST_BEFORE]  # type: ignore[attr-defined]
    marks[labels.PCI_DEVICE] = "0000:00:04.0 virtio-pci boot"  # type: ignore[index]

    def restore(_shell: HostShell, remembered: str) -> str:
        assert f"remove id-{run}" in api.calls, "a guest of the run still has it"
        assert f"remove volume name-{run}" not in api.calls
        if not obeys:
            raise EngineError(f"{remembered}: busy")
        return "PCI device"

    replace(monkeypatch, vfio, restore)
    if obeys:
        gone = cleanup.sweep(client(api))
        assert gone[2:4] == ["PCI device", f"volume name-{run}"]
        return
    with pytest.raises(EngineError, match=r"0000:00:04\.0 virtio-pci boot: busy"):
        cleanup.sweep(client(api))
    assert not any("volume" in call or "image" in call for call in api.calls), "the image can give it back later"


def test_a_devices_return_does_not_wait_for_what_cannot_be_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    api = marked("run")
    marks = api.things[0]["Labels"]
    del marks[labels.HOST_BEFORE]  # type: ignore[attr-defined]
    marks[labels.PCI_DEVICE] = "0000:00:04.0 virtio-pci boot"  # type: ignore[index]
    given: list[str] = []

    def refuse(network: str) -> None:
        raise Refusal(500, "has active endpoints")

    monkeypatch.setattr(api, "remove_network", refuse)

    def restore(_shell: HostShell, remembered: str) -> str:
        given.append(remembered)
        return ""

    replace(monkeypatch, vfio, restore)
    with pytest.raises(EngineError, match="active endpoints"):
        cleanup.remove(client(api), "run")
    assert given == ["0000:00:04.0 virtio-pci boot"]


def test_a_network_in_which_another_run_is_stays_untouched_and_remembered(given_back: list[str]) -> None:
    run = dead_run()
    api = marked(run)
    with network_lock.held(lambda _: None):
        gone = cleanup.sweep(client(api))
        assert not given_back
        assert gone == [f"container name-{run}", f"network name-{run}"], "a layer is kept to look at that network"
        assert f"remove volume name-{run}" not in api.calls
        assert cleanup.sweep(client(api), alone=True)[-2:] == [f"volume name-{run}", f"image id-{run}"]
    assert given_back == [run]


def test_what_remembers_stays_until_the_host_is_what_it_was(
    given_back: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(_shell: HostShell, _remembered: str) -> str:
        raise EngineError("the host's network keeps virbr0")

    replace(monkeypatch, network_leftovers, stuck)
    api = marked("mine")
    with pytest.raises(EngineError, match="keeps virbr0"):
        cleanup.remove(client(api), "mine")
    assert "remove volume name-mine" not in api.calls


def test_who_has_the_hosts_network_gives_it_back_and_keeps_the_rest(given_back: list[str]) -> None:
    api = marked("mine")
    assert cleanup.restore_network(client(api), "mine") == ["in the host's network: virbr0"]
    assert api.calls == ["remove volume name-mine"]
