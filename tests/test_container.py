"""A container's life on an engine that is made of answers."""

from typing import Any

import docker.errors
import pytest
import requests

from conformance import container as containers
from conformance import effective, mode
from conformance.container import Container
from conformance.contract import Contract
from conformance.errors import EngineError, ImageFailure, Unsupported


class Refusal(docker.errors.APIError):
    """An answer of the engine that is an error."""

    def __init__(self, explanation: str) -> None:
        super().__init__(explanation, explanation=explanation)


class FakeApi:
    """As much of docker-py's low-level client as a container's life needs."""

    def __init__(self, *refusals: str, status: int = 0) -> None:
        self.refusals = list(refusals)
        self.status = status
        self.created: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.volumes: set[str] = set()
        self.running = False
        self.output = ""

    def create_volume(self, labels: dict[str, str]) -> dict[str, str]:
        assert labels
        self.volumes.add(f"volume-{len(self.volumes)}")
        return {"Name": f"volume-{len(self.volumes) - 1}"}

    def remove_volume(self, name: str, force: bool) -> None:
        self.volumes.discard(name)

    def create_container_from_config(self, body: dict[str, Any]) -> dict[str, str]:
        self.created.append(body)
        return {"Id": f"id-{len(self.created)}"}

    def start(self, container: str) -> None:
        if self.refusals:
            raise Refusal(self.refusals.pop(0))
        self.running = True

    def stop(self, container: str, timeout: int) -> None:
        self.running = False

    def remove_container(self, container: str, v: bool, force: bool) -> None:
        self.removed.append(container)

    def inspect_container(self, container: str) -> dict[str, Any]:
        state = {"Running": self.running, "ExitCode": self.status, "Status": "exited", "Error": ""}
        networks = {"bridge": {"IPAddress": "172.17.0.2"}}
        return {"State": state, "Name": "/name", "NetworkSettings": {"Networks": networks, "Ports": {}}}

    def logs(self, container: str, tail: int) -> bytes:
        return b"the last words"

    def exec_create(self, container: str, words: list[str]) -> dict[str, str]:
        assert words[:2] == ["timeout", "-k"]
        return {"Id": "exec"}

    def exec_start(self, _id: str, demux: bool) -> tuple[bytes, None]:
        return self.output.encode(), None

    def exec_inspect(self, _id: str) -> dict[str, int]:
        return {"ExitCode": self.status}


def of(api: Any, contract: Contract, name: str = "unprivileged") -> Container:
    class Client:
        pass

    client: Any = Client()
    client.api = api
    return Container(client, mode.of(contract, name), "image", run="run")


def test_a_container_is_on_volumes_that_can_be_found_again_and_takes_them_along(contract: Contract) -> None:
    api = FakeApi()
    container = of(api, contract).start()
    binds = api.created[0]["HostConfig"]["Binds"]
    assert {
        f"{volume}:{path}"
        for volume, path in zip(sorted(api.volumes), mode.of(contract, "privileged").volumes.values(), strict=True)
    } <= set(binds)
    container.remove()
    assert not api.volumes
    assert api.removed == ["id-1"]


def test_a_device_that_the_host_lacks_is_left_out_and_noted(contract: Contract) -> None:
    api = FakeApi('error gathering device information while adding custom device "/dev/kvm": no such file or directory')
    container = of(api, contract).start()
    assert container.absent == ["/dev/kvm"]
    assert [device["PathOnHost"] for device in api.created[-1]["HostConfig"]["Devices"]] == ["/dev/net/tun"]
    assert api.removed == ["id-1"]


def test_what_the_engine_cannot_grant_is_unsupported(contract: Contract) -> None:
    api = FakeApi("OCI runtime create failed: unable to apply caps: operation not permitted")
    with pytest.raises(Unsupported, match="cannot grant"):
        of(api, contract, "privileged").start()
    assert api.removed == ["id-1"]


def test_another_refusal_is_the_engines(contract: Contract) -> None:
    with pytest.raises(EngineError, match="port is already allocated"):
        of(FakeApi("port is already allocated"), contract).start()


def test_a_container_that_ends_before_libvirt_answers_is_the_images_failure(contract: Contract) -> None:
    api = FakeApi(status=3)
    container = of(api, contract).start()
    api.running = False
    with pytest.raises(ImageFailure, match=r"ended before libvirt answered(.|\n)*exit status 3(.|\n)*the last words"):
        container.wait_until_ready()


@pytest.mark.parametrize("status", [124, 137])
def test_a_command_that_outlives_its_deadline_is_a_failure(contract: Contract, status: int) -> None:
    with pytest.raises(ImageFailure, match="still running after 7 s"):
        of(FakeApi(status=status), contract).start().run("sleep", "9", seconds=7)


def test_an_engine_that_went_away_is_the_engines_error(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    container = of(api, contract).start()

    def gone(*_: object, **__: object) -> None:
        raise requests.exceptions.ConnectionError("connection refused")

    for call in ("inspect_container", "exec_create", "stop", "remove_container", "logs"):
        monkeypatch.setattr(api, call, gone)
    for question in (lambda: container.running, lambda: container.run("true"), container.stop, container.remove):
        with pytest.raises(EngineError, match="went away"):
            question()
    assert "went away" in container.describe()


def test_less_than_declared_is_unsupported_and_more_is_an_error(contract: Contract, state_output: str) -> None:
    api = FakeApi()
    api.output = state_output
    container = of(api, contract).start()
    with pytest.raises(Unsupported, match="capability NET_ADMIN was not granted"):
        container.verify(cgroup_version=2, apparmor=False)

    known = effective.CAPABILITIES
    everything = f"{(1 << len(known)) - 1:016x}"
    api.output = state_output.replace("00000000a82425fb", everything)
    with pytest.raises(EngineError, match="granted unasked"):
        of(api, contract).start().verify(cgroup_version=2, apparmor=False)


def test_a_device_that_the_host_lacks_is_no_difference(
    contract: Contract, state_output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    api.output = state_output
    container = of(api, contract).start()
    container.absent = ["/dev/net/tun"]
    lacking = [effective.Difference("/dev/net/tun", "device /dev/net/tun is not in the container", True)]
    monkeypatch.setattr(effective, "compare", lambda *_, **__: lacking)
    container.verify(cgroup_version=2, apparmor=False)


def test_a_container_that_is_gone_is_told(contract: Contract) -> None:
    with pytest.raises(EngineError, match="someone else removed it"), containers.engine_errors():
        raise docker.errors.NotFound("no such container")
