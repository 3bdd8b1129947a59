from pathlib import Path

import pytest

from conformance.errors import HarnessError
from conformance.util import paths
from conformance.workers import selection as asked


def test_pytest_tells_what_its_options_select() -> None:
    words = ["-m", "api", "--mode", "least", "--mode=privileged", "-x", "--require", "api", "--junit-xml=/tmp/j.xml"]
    looked = asked.look(words)
    assert looked.status == 0
    assert looked.selection == asked.Selection(
        questions=frozenset({("api", "least"), ("api", "privileged")}),
        modes=("least", "privileged"),
        without=(),
        contract=paths.CONTRACT,
        required=("api",),
        image=None,
        host_name=None,
        results=paths.RESULTS,
        junit=Path("/tmp/j.xml"),
        pci_devices=(),
        giving=frozenset(),
        failures=1,
    )


def test_pytest_tells_which_modes_give_guests_a_device() -> None:
    words = ["-m", "pci_passthrough or api", "--mode", "least", "--pci-device", "00:04.0"]
    selection = asked.look(words).selection
    assert selection
    assert (selection.giving, selection.pci_devices) == (frozenset({"least"}), ("0000:00:04.0",))


def test_what_pytest_does_not_take_is_told_in_its_own_words() -> None:
    looked = asked.look(["--no-such-option"])
    assert (looked.status, looked.selection) == (pytest.ExitCode.USAGE_ERROR, None)
    assert "unrecognized arguments: --no-such-option" in looked.said
    with pytest.raises(HarnessError, match="pytest does not take --mode root"):
        asked.by(["--mode", "root"])


def test_what_selects_nothing_selects_nothing() -> None:
    looked = asked.look(["-k", "no_such_test"])
    assert looked.status == pytest.ExitCode.NO_TESTS_COLLECTED
    assert looked.selection
    assert looked.selection.questions == frozenset()
    assert looked.selection.failures == 0


def test_a_machine_on_which_pytest_does_not_come_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "SECONDS", 0.001)
    with pytest.raises(HarnessError, match="what -m kvm selects"):
        asked.look(["-m", "kvm"])
