from typing import Any

import pytest

from conformance import delegation, labels
from conformance.errors import EngineError

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
        client.ran.append((command[4:], options))
        return str(client.said.pop(0))

    monkeypatch.setattr("conformance.throwaway.output", output)


def test_what_the_host_has_is_noted_in_a_volume() -> None:
    client: Any = Client(CGROUP1 + CGROUP2)
    marks = delegation.remember(client, "image", "run")
    assert client.volumes == [marks]
    assert marks[labels.RUN] == "run"
    assert marks[labels.DELEGATION] == "memory_recursiveprot,nsdelegate"


@pytest.mark.parametrize("mountinfo", [CGROUP1, CGROUP2.replace(",nsdelegate,memory_recursiveprot", ""), ""])
def test_where_nothing_can_be_lost_nothing_is_noted(mountinfo: str) -> None:
    client: Any = Client(mountinfo)
    assert delegation.remember(client, "image", "run") == {}
    assert client.volumes == []


def test_it_is_given_back_in_the_hosts_own_namespace() -> None:
    client: Any = Client(CGROUP2, "mounted\n")
    delegation.give_back(client, delegation.remember(client, "image", "run"))
    words, options = client.ran[-1]
    assert words == ["memory_recursiveprot,nsdelegate"]
    assert (options["cgroupns"], options["cap_add"]) == ("host", ["SYS_ADMIN"])


def test_a_host_that_does_not_take_it_back_is_an_error_that_says_what_to_do() -> None:
    client: Any = Client(CGROUP2, "mount: permission denied\n")
    marks = delegation.remember(client, "image", "run")
    with pytest.raises(EngineError, match="permission denied") as raised:
        delegation.give_back(client, marks)
    assert "mount -o remount,memory_recursiveprot,nsdelegate" in raised.value.remedy
