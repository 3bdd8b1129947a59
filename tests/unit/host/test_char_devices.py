"""The numbers of drivers on the engine's host."""

from typing import Any

import pytest

from conformance.engine.host_shell import HostShell
from conformance.errors import Unsupported
from conformance.host import char_devices

DEVICES = """\
Character devices:
  1 mem
 10 misc
246 macvtap

Block devices:
254 virtblk
  9 md
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers with :data:`DEVICES`; the drivers that were asked for."""
    words: list[str] = []

    def output(_shell: HostShell, command: list[str], **_: Any) -> str:
        words.extend(command[4:])
        return DEVICES

    monkeypatch.setattr(HostShell, "output", output)
    return words


def majors(*names: str) -> Any:
    nobody: Any = None
    return char_devices.majors(HostShell(nobody, "image", "run"), names)


def test_the_number_of_a_driver_is_read(asked: list[str]) -> None:
    assert majors("macvtap") == {"macvtap": 246}
    assert asked == ["macvtap"]


def test_a_mode_without_rules_asks_nothing(asked: list[str]) -> None:
    assert majors() == {}
    assert asked == []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", ["ipvtap", "virtblk", "devices:"])
def test_a_driver_that_the_host_lacks_cannot_be_asked(name: str) -> None:
    with pytest.raises(Unsupported, match=f"driver {name}.*modprobe {name}"):
        majors(name)


def test_what_is_no_list_of_devices_has_no_driver() -> None:
    assert char_devices.parse("cat: /proc/devices: Permission denied") == {}
