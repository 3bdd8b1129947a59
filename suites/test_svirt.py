"""sVirt: each guest is confined by a label of its own."""

from typing import Any

import pytest

from conformance.container import effective_state
from conformance.container.container import Container
from conformance.plugin.fixtures import RunningGuests

pytestmark = pytest.mark.svirt


def test_a_guests_qemu_has_a_label_of_its_own(
    container: Container, running: RunningGuests, evidence: dict[str, Any]
) -> None:
    label, daemons = running().qemu.label, effective_state.read(container).daemon_label
    model, _ = container.connection.getSecurityModel()
    evidence["labels"] = {"QEMU": label, "daemon": daemons}

    assert daemons is not None, "no daemon of libvirt was found"
    assert label != daemons, f"QEMU has its daemon's label {label!r}: libvirt's model is {model}"
