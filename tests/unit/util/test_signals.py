import signal
import threading
from collections.abc import Iterator

import pytest

from conformance.util import signals

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")


def step(interrupts: int, reached: list[str], number: signal.Signals = signal.SIGINT) -> None:
    with signals.deferred():
        for _ in range(interrupts):
            signal.raise_signal(number)
        reached.append("its end")


def test_ctrl_c_waits_for_the_end_of_a_step() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        step(1, reached)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        step(2, reached)
    assert not reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_happens() -> None:
    reached: list[str] = []
    step(0, reached)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reached: list[str] = []
    step(1, reached)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_step_in_another_thread_is_left_alone() -> None:
    reached: list[str] = []
    thread = threading.Thread(target=step, args=(0, reached))
    thread.start()
    thread.join(10)
    assert reached


@pytest.fixture
def _hangup_as_usual() -> Iterator[None]:
    """Under nohup a process starts with it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup_as_usual")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_terminated_waits_for_the_end_of_a_step_too(number: signal.Signals) -> None:
    reached: list[str] = []
    with pytest.raises(signals.Terminated, match=number.name), signals.as_ctrl_c():
        step(1, reached, number)
    assert reached
    assert signal.getsignal(number) is signal.SIG_DFL


def test_an_end_that_has_begun_is_not_disturbed() -> None:
    with signals.as_ctrl_c(), signals.undisturbed():
        for number in signals.SIGNALS:
            signal.raise_signal(number)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_where_the_step_fails() -> None:
    def fail() -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGINT)
            raise OSError("the engine no longer answers")

    with pytest.raises(KeyboardInterrupt) as ended:
        fail()
    assert isinstance(ended.value.__context__, OSError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
