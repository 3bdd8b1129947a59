from typing import Any

import pytest

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError
from conformance.host.cgroup_options import CgroupOptions

CGROUP2 = "30 25 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot\n"
CGROUP1 = "31 25 0:27 / /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu\n"


class Client:
    """An engine that makes volumes, and whose containers say what they are told to."""

    def __init__(self, *said: str) -> None:
        self.api = self
        self.said = list(said)
        self.volumes: list[dict[str, str]] = []
        self.ran: list[tuple[Any, dict[str, Any]]] = []

    def create_volume(self, name: str, labels: dict[str, str]) -> dict[str, str]:
        self.volumes.append(labels)
        return {"Name": name}


@pytest.fixture(autouse=True)
def _throwaway(monkeypatch: pytest.MonkeyPatch) -> None:
    def output(shell: Any, command: list[str], **options: Any) -> str:
        shell.client.ran.append((command, options))
        return str(shell.client.said.pop(0))

    monkeypatch.setattr(HostShell, "output", output)


def noted(*said: str) -> tuple[Any, CgroupOptions]:
    client: Any = Client(*said)
    options = CgroupOptions(HostShell(client, "image", "run"))
    options.remember()
    return client, options


def test_what_the_host_has_is_noted_in_a_volume_once() -> None:
    client, options = noted(CGROUP1 + CGROUP2)
    options.remember()
    (marks,) = client.volumes
    assert marks[labels.RUN] == "run"
    assert marks[labels.DELEGATION] == "memory_recursiveprot,nsdelegate"
    assert len(client.ran) == 1


@pytest.mark.parametrize("mountinfo", [CGROUP1, CGROUP2.replace(",nsdelegate,memory_recursiveprot", ""), ""])
def test_where_nothing_can_be_lost_nothing_is_noted_and_nothing_given_back(mountinfo: str) -> None:
    client, options = noted(mountinfo)
    options.remember()
    options.restore()
    assert client.volumes == []
    assert len(client.ran) == 1


def test_before_anything_was_taken_nothing_is_given_back() -> None:
    client: Any = Client()
    CgroupOptions(HostShell(client, "image", "run")).restore()
    assert client.ran == []


def test_it_is_given_back_in_the_hosts_own_namespace() -> None:
    client, options = noted(CGROUP2, "mounted\n")
    options.restore()
    command, granted = client.ran[-1]
    assert command[-1] == "memory_recursiveprot,nsdelegate"
    assert (granted["cgroupns"], granted["cap_add"]) == ("host", ["SYS_ADMIN"])


def test_a_host_that_does_not_take_it_back_is_an_error_that_says_what_to_do() -> None:
    _, options = noted(CGROUP2, "mount: permission denied\n")
    with pytest.raises(EngineError, match="permission denied") as raised:
        options.restore()
    assert "mount -o remount,memory_recursiveprot,nsdelegate" in raised.value.remedy
