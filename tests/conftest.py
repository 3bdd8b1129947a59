"""What the harness's own tests share."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conformance.model import contract as contracts
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record
from conformance.model.verdict import Verdict

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def state_output() -> str:
    """What the script of conformance.container.effective_state writes in a container."""
    return """\
CapBnd 00000000a82425fb
Seccomp 0
LastCap 40
Label docker-default (enforce)
Cgroup 0::/docker/4f0c
Mount 1 0 0:1 / / rw,relatime - overlay overlay rw
Mount 2 1 0:2 / /proc rw,nosuid - proc proc rw
Mount 3 2 0:2 /sys /proc/sys ro,nosuid - proc proc rw
Mount 4 2 0:5 / /proc/kcore rw - tmpfs tmpfs rw
Mount 5 3 0:2 /sys /proc/sys rw - proc proc rw
Device /dev/kvm
"""


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The project's own contract."""
    return contracts.load()


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Makes a record; what is not given is plausible."""

    def make(**changes: Any) -> Record:
        given: dict[str, Any] = {
            "run": "20260101T000000Z-abcdef-1",
            "host": Host(name="docker-1", fingerprint={"kernel": "6.1", "engine": "docker 26.1"}),
            "image": Image(tag="libvirt:1", id="sha256:0", base="debian:trixie-slim"),
            "mode": "unprivileged",
            "feature": "iso",
            "check": "test_boot",
            "checks": ("test_boot",),
            "verdict": Verdict.WORKS,
            "seconds": 1.0,
        }
        return Record(**(given | changes))

    return make


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """In the background of a shell a process starts with ctrl-C ignored, and its children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
