"""Installing Windows from a medium of the user's."""

from pathlib import Path
from typing import Any

import pytest

from conformance.container.container import Container
from conformance.errors import Unsupported
from conformance.guests.install_watch import INSTALL_SECONDS, START_SECONDS
from conformance.guests.peer_network import PeerNetwork
from conformance.installers.windows.user_iso import Windows
from conformance.plugin.fixtures import Install
from conformance.run.context import Run

pytestmark = [
    pytest.mark.install_windows,
    pytest.mark.install,
    pytest.mark.timeout(INSTALL_SECONDS + START_SECONDS),
]


def test_windows_is_installed_and_starts_from_its_disk(
    windows: Windows,
    install: Install,
    container: Container,
    run: Run,
    peer_network: PeerNetwork,
    tmp_path: Path,
    evidence: dict[str, Any],
) -> None:
    if run.accel_in(container) == "tcg":
        raise Unsupported("Windows is installed under KVM only")
    evidence |= {"edition": str(windows.edition), "firmware": windows.firmware}

    with install(windows.installation(tmp_path), firmware=windows.firmware) as machine:
        machine.press_any_key()
        machine.until("end", "installing", INSTALL_SECONDS)
        guest = machine.wait_for_end()

    system = guest.report["system"]
    assert system["release"].startswith("Microsoft Windows")
    assert system["build"] == str(windows.edition.build)
    assert system["firmware"] == ("bios" if windows.firmware == "bios" else "efi")
    assert system["secure_boot"] == (windows.firmware == "secure-boot")
    assert system["driver"] == "viostor"
    assert guest.report["tpm"]["ready"] == (windows.firmware == "secure-boot")

    assert guest.report["link"]["driver"] == "netkvm"
    assert guest.report["link"]["mac"] == guest.mac
    assert guest.report["lease"]["address"] in [lease["ipaddr"] for lease in guest.leases]
    reply = guest.report["exchange"].json("reply")
    assert reply["query"] == guest.nonce
    assert reply["client"] == peer_network.source(container)
