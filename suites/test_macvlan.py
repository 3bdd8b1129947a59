"""Macvlan networking, which is macvtap for a guest."""

import pytest

from conformance.plugin import Boot

pytestmark = pytest.mark.macvlan


def test_a_guest_talks_over_macvtap(boot: Boot) -> None:
    guest = boot("macvtap")

    assert guest.report["link"]["driver"] == "virtio_net"
    assert guest.report["lease"]["address"]
