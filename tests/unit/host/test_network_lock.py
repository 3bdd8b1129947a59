"""Two runs in the host's network, one after the other."""

import os
import secrets
import subprocess
import sys
import threading

import pytest

from conformance.errors import HarnessError
from conformance.host import network_lock


@pytest.fixture
def address() -> str:
    """A lock of the test's own."""
    return f"\0conformance-test-{secrets.token_hex(8)}"


def test_a_second_run_waits_and_is_told_for_whom(address: str) -> None:
    told: list[str] = []
    waiting = threading.Event()
    entered = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        waiting.set()

    def second() -> None:
        with network_lock.held(tell, seconds=60, address=address):
            entered.set()

    with network_lock.held(told.append, address=address):
        assert not told
        thread = threading.Thread(target=second, daemon=True)
        thread.start()
        assert waiting.wait(60)
        assert not entered.is_set()
    assert entered.wait(60)
    thread.join(60)
    assert told == [f"waiting for another run (process {os.getpid()}) to leave the host's network"]


def test_a_wait_has_an_end_and_says_what_to_do(address: str) -> None:
    with (
        network_lock.held(lambda _: None, address=address),
        pytest.raises(HarnessError, match=rf"process {os.getpid()}\) is still in the host's network(.|\n)*--mode"),
        network_lock.held(lambda _: None, seconds=0, address=address),
    ):
        pass


def test_engines_of_this_machine_share_a_lock_and_those_elsewhere_have_their_own() -> None:
    here = os.uname()
    ours = {"Name": here.nodename, "KernelVersion": here.release}
    assert network_lock.address(ours | {"ID": "a"}) == network_lock.address(ours | {"ID": "b"}) == network_lock.ADDRESS
    theirs = [network_lock.address({"Name": "elsewhere", "KernelVersion": "6.1.0", "ID": one}) for one in ("a", "b")]
    assert len({network_lock.ADDRESS, *theirs}) == 3


def test_a_run_that_is_killed_holds_nothing(address: str) -> None:
    script = (
        "import os, signal\nfrom conformance.host import network_lock\n"
        f"with network_lock.held(print, address={address!r}):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    with network_lock.held(lambda _: None, seconds=0, address=address):
        pass
