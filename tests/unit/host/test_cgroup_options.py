from typing import Any

import pytest

from conformance.engine import labels
from conformance.errors import EngineError
from conformance.host.cgroup_options import Delegation

CGROUP2 = "30 25 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot\n"
CGROUP1 = "31 25 0:27 / /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu\n"


class Client:
    """An engine that makes volumes, and whose containers say what they are told to."""

    def __init__(self, *said: str) -> None:
        self.api = self
        self.said = list(said)
        self.volumes: list[dict[str, str]] = []
        self.ran: list[tuple[Any, dict[str, Any]]] = []

    def create_volume(self, labels: dict[str, str]) -> dict[str, str]:
        self.volumes.append(labels)
        return {"Name": "volume"}


@pytest.fixture(autouse=True)
def _throwaway(monkeypatch: pytest.MonkeyPatch) -> None:
    def output(client: Any, _image: str, command: list[str], **options: Any) -> str:
        client.ran.append((command, options))
        return str(client.said.pop(0))

    monkeypatch.setattr("conformance.engine.one_shot.output", output)


def noted(*said: str) -> tuple[Any, Delegation]:
    client: Any = Client(*said)
    delegation = Delegation(client, "image", "run")
    delegation.note()
    return client, delegation


def test_what_the_host_has_is_noted_in_a_volume_once() -> None:
    client, delegation = noted(CGROUP1 + CGROUP2)
    delegation.note()
    (marks,) = client.volumes
    assert marks[labels.RUN] == "run"
    assert marks[labels.DELEGATION] == "memory_recursiveprot,nsdelegate"
    assert len(client.ran) == 1


@pytest.mark.parametrize("mountinfo", [CGROUP1, CGROUP2.replace(",nsdelegate,memory_recursiveprot", ""), ""])
def test_where_nothing_can_be_lost_nothing_is_noted_and_nothing_given_back(mountinfo: str) -> None:
    client, delegation = noted(mountinfo)
    delegation.note()
    delegation.give_back()
    assert client.volumes == []
    assert len(client.ran) == 1


def test_before_anything_was_taken_nothing_is_given_back() -> None:
    client: Any = Client()
    Delegation(client, "image", "run").give_back()
    assert client.ran == []


def test_it_is_given_back_in_the_hosts_own_namespace() -> None:
    client, delegation = noted(CGROUP2, "mounted\n")
    delegation.give_back()
    command, options = client.ran[-1]
    assert command[-1] == "memory_recursiveprot,nsdelegate"
    assert (options["cgroupns"], options["cap_add"]) == ("host", ["SYS_ADMIN"])


def test_a_host_that_does_not_take_it_back_is_an_error_that_says_what_to_do() -> None:
    _, delegation = noted(CGROUP2, "mount: permission denied\n")
    with pytest.raises(EngineError, match="permission denied") as raised:
        delegation.give_back()
    assert "mount -o remount,memory_recursiveprot,nsdelegate" in raised.value.remedy
