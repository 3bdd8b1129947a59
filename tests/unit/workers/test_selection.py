from pathlib import Path

import pytest

from conformance.errors import HarnessError
from conformance.util import paths
from conformance.workers import selection


def test_pytest_tells_what_its_options_select() -> None:
    words = ["-m", "api", "--mode", "least", "--mode=privileged", "-x", "--require", "api", "--junit-xml=/tmp/j.xml"]
    collected = selection.collect(words)
    checks = (paths.SUITES / "test_api.py").read_text().count("\ndef test_")
    assert collected.status == 0
    assert collected.selection == selection.Selection(
        cells=frozenset({("api", "least"), ("api", "privileged")}),
        modes=("least", "privileged"),
        checks={"least": checks, "privileged": checks},
        verbose=0,
        modes_by_host=False,
        without=(),
        contract=paths.CONTRACT,
        required=("api",),
        image=None,
        host_name=None,
        results=None,
        junit=Path("/tmp/j.xml"),
        pci_devices=(),
        pci_modes=frozenset(),
        max_failures=1,
    )


def test_the_modes_of_a_profile_are_of_every_kind_of_host_until_one_is_known() -> None:
    words = ["-m", "api", "--profile", "smoke"]
    by_host, named = (selection.collect([*words, *more]).selection for more in ([], ["--mode", "privileged"]))
    assert by_host
    assert (by_host.modes, by_host.modes_by_host) == (("least", "least-apparmor", "unprivileged-unlabelled"), True)
    assert named
    assert (named.modes, named.modes_by_host) == (("privileged",), False)


def test_a_mode_without_a_part_has_its_own_cells() -> None:
    selected = selection.collect(["-m", "api", "--mode", "least", "--without", "NET_RAW"]).selection
    assert selected
    assert (selected.modes, selected.cells) == (("least",), frozenset({("api", "least-without-NET_RAW")}))


def test_pytest_tells_which_modes_give_guests_a_device() -> None:
    words = ["-m", "pci_passthrough or api", "--mode", "least", "--pci-device", "00:04.0"]
    selected = selection.collect(words).selection
    assert selected
    assert (selected.pci_modes, selected.pci_devices) == (frozenset({"least"}), ("0000:00:04.0",))


def test_what_pytest_does_not_take_is_told_in_its_own_words() -> None:
    collected = selection.collect(["--no-such-option"])
    assert (collected.status, collected.selection) == (pytest.ExitCode.USAGE_ERROR, None)
    assert "unrecognized arguments: --no-such-option" in collected.output
    with pytest.raises(HarnessError, match="refuses the options --mode root"):
        selection.collect_cells(["--mode", "root"])


def test_what_selects_nothing_selects_nothing() -> None:
    collected = selection.collect(["-k", "no_such_test"])
    assert collected.status == pytest.ExitCode.NO_TESTS_COLLECTED
    assert collected.selection
    assert collected.selection.cells == frozenset()
    assert collected.selection.max_failures == 0


def test_a_machine_on_which_pytest_does_not_come_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "COLLECT_SECONDS", 0.001)
    with pytest.raises(HarnessError, match="-m kvm"):
        selection.collect(["-m", "kvm"])


@pytest.mark.parametrize(
    ("words", "line"), [(["-m", "nosuch"], "nosuch"), (["--nosuch"], "unrecognized arguments: --nosuch")]
)
def test_a_usage_error_is_a_message_without_tests_and_without_the_parsers_frame(words: list[str], line: str) -> None:
    collected = selection.collect(words)
    assert collected.status == pytest.ExitCode.USAGE_ERROR
    message = selection.usage_error(collected.output)
    assert line in message.splitlines()[0]
    assert "::" not in message
    assert "usage:" not in message
    assert "rootdir" not in message


def test_the_message_of_a_plugin_stays_whole() -> None:
    assert (
        selection.usage_error("ERROR: no such mode\n  what to do: another\n\n") == "no such mode\n  what to do: another"
    )
