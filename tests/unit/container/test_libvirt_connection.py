import contextlib
import signal
import threading

import libvirt
import pytest

from conformance.container import libvirt_connection


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_in_a_call_that_fails_is_ctrl_c() -> None:
    libvirt_connection.start_event_loop()
    connection = libvirt.open("test:///default")
    main = threading.main_thread().ident or 0
    for _ in range(200):
        timer = threading.Timer(0.002, signal.pthread_kill, (main, signal.SIGINT))
        # Not as a SystemError, which a test would take for an error of its own.
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  - which of the calls it interrupts is chance
            timer.start()
            while True:
                with contextlib.suppress(libvirt.libvirtError):
                    connection.storagePoolLookupByName("none")
        timer.join()


def test_an_error_is_an_exception_and_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    libvirt_connection.start_event_loop()
    with pytest.raises(libvirt.libvirtError, match="Storage pool not found"):
        libvirt.open("test:///default").storagePoolLookupByName("none")
    assert capfd.readouterr() == ("", "")
