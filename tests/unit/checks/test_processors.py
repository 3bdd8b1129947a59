from typing import Any

import pytest

from conformance.checks import processors
from conformance.errors import Unsupported

THREADS = {"qemu-system-x86": "0-3", "IO mon_iothread": "0-3", "CPU 1/KVM": "3", "CPU 0/KVM": "2"}


class Container:
    """A container that may use some of its host's processors."""

    def __init__(self, allowed: str) -> None:
        self.text = f"Cpus_allowed_list:\t{allowed}\n"

    def run(self, *_command: str) -> Any:
        return self


@pytest.mark.parametrize(("text", "numbers"), [("0", [0]), ("0-2,5\n", [0, 1, 2, 5]), ("3,7-8", [3, 7, 8])])
def test_a_list_of_processors_is_read_as_linux_writes_it(text: str, numbers: list[int]) -> None:
    assert processors.parse(text) == numbers


def test_where_there_is_one_processor_no_pinned_thread_can_be_told() -> None:
    container: Any = Container("0-1")
    assert processors.usable(container) == [0, 1]
    alone: Any = Container("3")
    with pytest.raises(Unsupported, match="3"):
        processors.usable(alone)


def test_the_threads_of_a_guests_processors_are_told_from_qemus_own() -> None:
    assert processors.of_guest(THREADS) == ["2", "3"]
    assert processors.of_emulator(THREADS) == {"0-3"}
