"""Guests that are confined by labels of their own."""

import pytest

from conformance.container import Container
from conformance.plugin import Live

pytestmark = pytest.mark.svirt


def test_a_guests_qemu_has_a_label_of_its_own(container: Container, running: Live) -> None:
    label = running().label
    model, _ = container.connection.getSecurityModel()

    assert label != container.state().daemon_label, f"QEMU has its daemon's label {label!r}: libvirt's model is {model}"
