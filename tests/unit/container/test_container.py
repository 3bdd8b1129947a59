"""A container's life on an engine that is made of answers."""

import threading
from typing import Any

import docker.errors
import libvirt
import pytest
import requests

from conformance.container import container as containers
from conformance.container import effective_state, engine_container, libvirt_connection
from conformance.container.container import Container
from conformance.container.health import run_health_check
from conformance.engine import exec_stream, names
from conformance.engine.api_errors import engine_errors
from conformance.errors import EngineError, EngineGone, ImageFailure, ImageLate, Unsupported
from conformance.model import mode
from conformance.model.contract import Contract
from conformance.util.wait import DeadlineExpired


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
        self.names: list[str] = []
        self.removed: list[str] = []
        self.volumes: set[str] = set()
        self.running = False
        self.output = ""
        self.killed = 0

    def create_volume(self, name: str, labels: dict[str, str]) -> dict[str, str]:
        assert labels
        assert name not in self.volumes
        self.volumes.add(name)
        return {"Name": name}

    def remove_volume(self, name: str, force: bool) -> None:
        self.volumes.discard(name)

    def create_container_from_config(self, body: dict[str, Any], name: str) -> dict[str, str]:
        self.names.append(name)
        self.created.append(body)
        return {"Id": f"id-{len(self.created)}"}

    def start(self, container: str) -> None:
        if self.refusals:
            raise Refusal(self.refusals.pop(0))
        self.running = True

    def stop(self, container: str, timeout: int) -> None:
        self.running = False

    def kill(self, container: str) -> None:
        self.killed += 1
        self.running = False

    def remove_container(self, container: str, v: bool, force: bool) -> None:
        self.removed.append(container)

    def inspect_container(self, container: str) -> dict[str, Any]:
        state = {"Running": self.running, "ExitCode": self.status, "Status": "exited", "Error": ""}
        networks = {"bridge": {"IPAddress": "172.17.0.2"}}
        return {"State": state, "Name": "/name", "NetworkSettings": {"Networks": networks, "Ports": {}}}

    def logs(self, container: str, tail: int, timestamps: bool) -> bytes:
        assert timestamps
        lines = (self.output or "the last words").splitlines()[-tail:]
        return "\n".join(
            f"2026-01-01T00:00:{second:02}.000000000Z {line}" for second, line in enumerate(lines)
        ).encode()

    def exec_create(self, container: str, words: list[str], user: str = "") -> dict[str, str]:
        assert words[:2] == ["timeout", "-k"]
        return {"Id": "exec"}

    def exec_start(self, _id: str) -> tuple[bytes, bytes]:
        return self.output.encode(), b""

    def exec_inspect(self, _id: str) -> dict[str, int]:
        return {"ExitCode": self.status}


@pytest.fixture(autouse=True)
def _output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command writes is the answer itself, not a stream to be read."""
    monkeypatch.setattr(exec_stream, "output", lambda client, command: client.api.exec_start(command))


@pytest.fixture(autouse=True)
def _no_name_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_used", set())


def of(api: Any, contract: Contract, name: str = "unprivileged") -> Container:
    class Client:
        pass

    client: Any = Client()
    client.api = api
    return Container(client, mode.from_contract(contract, name), "image", run="run")


def test_a_container_is_on_volumes_that_can_be_found_again_and_takes_them_along(contract: Contract) -> None:
    api = FakeApi()
    container = of(api, contract).start()
    binds = api.created[0]["HostConfig"]["Binds"]
    kept = {
        f"conformance-run-unprivileged-{name}:{path}"
        for name, path in mode.from_contract(contract, "privileged").volumes.items()
    }
    assert kept <= set(binds)
    container.remove()
    assert not api.volumes
    assert api.removed == ["id-1"]


def test_a_container_is_named_after_its_mode_and_a_second_one_gets_a_number(contract: Contract) -> None:
    api = FakeApi()
    of(api, contract).start()
    of(api, contract).start()
    assert api.names == ["conformance-run-unprivileged", "conformance-run-unprivileged-2"]


def test_a_device_that_the_host_lacks_is_left_out_and_noted(contract: Contract) -> None:
    api = FakeApi('error gathering device information while adding custom device "/dev/kvm": no such file or directory')
    container = of(api, contract).start()
    assert container.absent == ["/dev/kvm"]
    assert [device["PathOnHost"] for device in api.created[-1]["HostConfig"]["Devices"]] == ["/dev/net/tun"]
    assert api.removed == ["id-1"]


@pytest.mark.parametrize(
    ("mode_id", "refusal"),
    [
        ("privileged", "unable to apply caps: operation not permitted"),
        (
            "least-tuned",
            "error setting rlimits for ready process: error setting rlimit type 8: operation not permitted",
        ),
    ],
)
def test_what_the_engine_cannot_grant_is_unsupported(contract: Contract, mode_id: str, refusal: str) -> None:
    api = FakeApi(f"OCI runtime create failed: {refusal}")
    with pytest.raises(Unsupported, match="cannot grant"):
        of(api, contract, mode_id).start()
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
        with pytest.raises(EngineError, match="no longer answers"):
            question()
    assert "no longer answers" in container.describe()


def test_less_than_declared_is_unsupported_and_more_is_an_error(contract: Contract, state_output: str) -> None:
    api = FakeApi()
    api.output = state_output
    container = of(api, contract).start()
    with pytest.raises(Unsupported, match="capability NET_ADMIN was not granted"):
        effective_state.verify(container, cgroup_version=2, security=())

    known = effective_state.CAPABILITIES
    everything = f"{(1 << len(known)) - 1:016x}"
    api.output = state_output.replace("00000000a82425fb", everything)
    with pytest.raises(EngineError, match="granted, but"):
        effective_state.verify(of(api, contract).start(), cgroup_version=2, security=())


def test_a_device_that_the_host_lacks_is_no_difference(
    contract: Contract, state_output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    api.output = state_output
    container = of(api, contract).start()
    container.absent = ["/dev/net/tun"]
    lacking = [effective_state.Difference("/dev/net/tun", "device /dev/net/tun is not in the container", True)]
    monkeypatch.setattr(effective_state, "compare", lambda *_, **__: lacking)
    effective_state.verify(container, cgroup_version=2, security=())


def test_a_container_that_is_gone_is_told(contract: Contract) -> None:
    with pytest.raises(EngineError, match="someone else removed it"), engine_errors():
        raise docker.errors.NotFound("no such container")


class Connection:
    """A connection to libvirt that is alive or not."""

    def __init__(self) -> None:
        self.alive = True

    def isAlive(self) -> bool:  # noqa: N802
        return self.alive

    def close(self) -> None:
        pass


@pytest.fixture
def libvirt_answers(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Connections that were opened, the newest last."""
    opened: list[Connection] = []

    def connect(_uri: str, seconds: float) -> Connection:
        opened.append(Connection())
        return opened[-1]

    monkeypatch.setattr(libvirt_connection, "connect", connect)
    return opened


def test_a_port_that_somebody_else_took_first_is_chosen_anew(
    contract: Contract, libvirt_answers: list[Connection]
) -> None:
    api = FakeApi()
    container = of(api, contract, "unprivileged-hostnet").start()
    first = container.port
    api.running, api.output = False, "unable to bind: Address already in use"
    container.wait_until_ready()
    ports = [line for body in api.created for line in body["Env"] if line.startswith("TCP_PORT=")]
    assert ports == [f"TCP_PORT={first}", f"TCP_PORT={container.port}"]
    assert api.removed == ["id-1"]


def test_an_image_that_cannot_be_told_a_port_keeps_its_own(contract: Contract) -> None:
    theirs = contract.model_copy(update={"image": contract.image.model_copy(update={"port_variable": ""})})
    api = FakeApi()
    container = of(api, theirs, "unprivileged-hostnet").start()
    assert container.port == 16509
    assert api.created[0]["Env"] == ["LISTEN_ADDRESS=127.0.0.1"]


def test_a_port_on_a_bridge_is_nobody_elses(contract: Contract) -> None:
    api = FakeApi()
    container = of(api, contract).start()
    assert container.port == contract.image.port
    api.running, api.output = False, "unable to bind: Address already in use"
    with pytest.raises(ImageFailure, match="ended before libvirt answered"):
        container.wait_until_ready()


def test_a_lost_connection_is_opened_again_and_a_living_one_kept(
    contract: Contract, libvirt_answers: list[Connection]
) -> None:
    container = of(FakeApi(), contract).start()
    container.wait_until_ready()
    container.revive()
    assert len(libvirt_answers) == 1
    libvirt_answers[0].alive = False
    container.revive()
    assert len(libvirt_answers) == 2
    assert container.connection is libvirt_answers[1]


def test_a_libvirt_that_no_longer_answers_is_started_again(
    contract: Contract, libvirt_answers: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    container = of(api, contract).start()
    container.wait_until_ready()
    libvirt_answers[0].alive = False
    answer = libvirt_connection.connect

    def hang(_uri: str, seconds: float) -> Any:
        if api.killed:
            return answer("", seconds)
        raise DeadlineExpired("an answer", seconds, "no answer")

    monkeypatch.setattr(libvirt_connection, "connect", hang)
    monkeypatch.setattr(containers, "OPEN_SECONDS", 0)
    container.revive()
    assert api.killed == 1
    assert container.connection is libvirt_answers[-1]


def test_a_close_that_hangs_is_given_up(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    container = of(FakeApi(), contract).start()
    container._connection = type("Hung", (), {"close": lambda _self: release.wait(60)})()
    monkeypatch.setattr(containers, "CLOSE_SECONDS", 0.05)
    container.disconnect()
    release.set()


def test_a_silent_libvirt_is_told_with_the_ports_that_are_open(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeApi()
    api.output = (
        "  sl  local_address rem_address   st tx_queue rx_queue\n"
        "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n"
        "   1: 0B00007F:A1B2 00000000:0000 0A 00000000:00000000\n"
        "   2: 00000000:407D 00000000:0000 01 00000000:00000000\n"
    )

    def refuse(_uri: str, seconds: float) -> Any:
        raise libvirt.libvirtError("connection reset")

    monkeypatch.setattr(libvirt_connection, "connect", refuse)
    with pytest.raises(ImageLate, match="port 16509; the container listens on 8080\n"):
        of(api, contract).start().wait_until_ready(0)


def test_an_engine_that_does_not_end_a_command_is_gone(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    release = threading.Event()
    monkeypatch.setattr(api, "exec_start", lambda _id: release.wait(60))
    monkeypatch.setattr(engine_container, "ENGINE_SECONDS", 0)
    with pytest.raises(EngineGone, match="the engine to run a command"):
        of(api, contract).start().run("true", seconds=0)
    release.set()


def test_what_was_logged_before_a_check_says_nothing_of_it(contract: Contract) -> None:
    api = FakeApi()
    container = of(api, contract).start()
    api.output = "cannot open macvtap tap device"
    container.mark()
    assert "macvtap" not in container.describe()
    assert "macvtap" in container.log()

    api.output += "\nthe guest is silent"
    assert "newest log lines:\nthe guest is silent" in container.describe()


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (["CMD", "/usr/local/bin/healthcheck"], ["env", "TCP_PORT=1", "/usr/local/bin/healthcheck"]),
        (["CMD-SHELL", "curl -f x || exit 1"], ["env", "TCP_PORT=1", "sh", "-c", "curl -f x || exit 1"]),
    ],
)
def test_the_images_health_check_is_run_as_the_engine_does(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, test: list[str], words: list[str]
) -> None:
    api = FakeApi(status=1)
    container = of(api, contract).start()
    asked: list[list[str]] = []
    inspected = {"Config": {"Healthcheck": {"Test": test}}}

    def exec_create(_container: str, words: list[str], user: str) -> dict[str, str]:
        asked.append(words)
        return {"Id": "exec"}

    monkeypatch.setattr(api, "inspect_container", lambda _container: inspected)
    monkeypatch.setattr(api, "exec_create", exec_create)

    assert run_health_check(container, port=1).status == 1
    assert asked[0][4:] == words

    inspected["Config"] = {"Healthcheck": {"Test": ["NONE"]}}
    with pytest.raises(ImageFailure, match="no health check"):
        run_health_check(container)
