"""The mirror that guests install from."""

from typing import Any

import pytest

from conformance.errors import HarnessError
from conformance.installers import debian_mirror
from conformance.util import apt
from conformance.util.apt import Mirror


def test_the_default_is_the_machines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Mirror("https://a/debian/"), Mirror("http://b/debian/"), Mirror("http://s/", security=True)]
    monkeypatch.setattr(apt, "mirrors", lambda: known)
    assert debian_mirror.mirror_url(None) == "http://b/debian"


def test_a_given_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "mirrors", lambda: [Mirror("http://b/debian/")])
    assert debian_mirror.mirror_url("http://c/debian//") == "http://c/debian"


@pytest.mark.parametrize("known", [[], [Mirror("https://a/debian/")], [Mirror("http://s/", security=True)]])
def test_a_machine_without_one_is_told_how_to_name_one(monkeypatch: pytest.MonkeyPatch, known: list[Mirror]) -> None:
    monkeypatch.setattr(apt, "mirrors", lambda: known)
    with pytest.raises(HarnessError, match="--install-mirror=URL"):
        debian_mirror.mirror_url(None)


@pytest.mark.parametrize("given", ["", "ftp://a/debian", "https://a/debian", "a/debian"])
def test_what_the_installer_cannot_use_is_refused(given: str) -> None:
    with pytest.raises(HarnessError, match="no URL that begins with http://"):
        debian_mirror.mirror_url(given)


class Server:
    """A server on the run's network, which says something of whatever it is asked for."""

    def __init__(self, said: str) -> None:
        self.said = said
        self.asked: tuple[str, ...] = ()

    def output(self, _script: str, *arguments: str, seconds: int) -> str:
        self.asked = arguments
        return self.said


def test_a_mirror_that_containers_reach_is_well() -> None:
    server: Any = Server("Connecting to b\nOrigin: Debian\nCodename: trixie\n")
    debian_mirror.require("http://b/debian", "trixie", server)
    assert server.asked == ("http://b/debian/dists/trixie/Release",)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("wget: bad address 'b'\n", "wget: bad address 'b'"),
        ("", "nothing"),
        ("Codename: trixie-updates\n", "Codename: trixie-updates"),
    ],
)
def test_a_mirror_that_they_do_not_reach_is_an_error_of_the_harness(said: str, told: str) -> None:
    server: Any = Server(said)
    with pytest.raises(HarnessError, match=f"do not get http://b/debian/dists/trixie/Release: {told}") as caught:
        debian_mirror.require("http://b/debian", "trixie", server)
    assert "--install-mirror" in caught.value.remedy
