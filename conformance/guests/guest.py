"""One boot of a guest: its definition, its report, and everything else that was observed of it."""

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.container.container import Container
from conformance.errors import ImageFailure
from conformance.guests.domain_xml import domain_xml, new_mac
from conformance.guests.screen import Reading, small_png
from conformance.guests.spec import GuestSpec
from conformance.media.probe_report import Report

CONSOLE_EXCERPT = 2500
"""Characters of the console's end that go into an error."""


@dataclass
class Guest:
    """One boot, as far as it has been observed.

    Attributes:
        name: the domain's name.
        nonce: repeated by the guest on each line of its report.
        spec: its parts.
        xml: the domain's definition.
        mac: address of its network card.
        report: the guest's own report.
        console: everything on the serial console.
        screen: the text on the screen when it was last read.
        picture: paths of the screenshots that were kept of a failed wait.
        screenshot: the screenshot that was judged, an image file; empty where none was.
        kvm: QEMU's own answer to ``query-kvm``: ``enabled`` and ``present``.
        open_files: the files that the QEMU process held open while the guest ran.
        leases: the guest's leases in libvirt's network while it ran.
        seconds: from the API call that starts the domain to its end.
    """

    name: str
    nonce: str
    spec: GuestSpec
    xml: str
    mac: str
    report: Report = field(default_factory=lambda: Report("", ""))
    console: str = ""
    screen: Reading = field(default_factory=Reading)
    picture: str = ""
    screenshot: bytes = b""
    kvm: dict[str, Any] = field(default_factory=dict)
    open_files: frozenset[str] = frozenset()
    leases: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """Return the part of this boot that a record keeps."""
        screenshot = base64.b64encode(small_png(self.screenshot)).decode() if self.screenshot else None
        return {
            "domain": self.name,
            "firmware": self.spec.firmware,
            "kvm": self.kvm,
            "report": self.report.as_json(),
            "seconds": round(self.seconds, 2),
            "xml": self.xml,
            **({"screenshot": screenshot} if screenshot else {}),
        }


class GuestFailure(ImageFailure):
    """A guest started, and failed before its end.

    Args:
        message: the failure.
        container: the container; its log and the engine's words are added.
        guest: the guest as far as it got; its console and QEMU's log are added.
    """

    def __init__(self, message: str, container: Container, guest: Guest) -> None:
        super().__init__(f"{message}\n{_traces(container, guest)}")
        self.guest = guest


def new_guest(spec: GuestSpec, orders: Mapping[str, str]) -> Guest:
    """Return a guest with a new name, nonce and address, whose domain does not exist yet."""
    nonce = secrets.token_hex(8)
    name = f"probe-{nonce[:8]}"
    mac = new_mac()
    return Guest(name, nonce, spec, domain_xml(name, spec, mac, {"nonce": nonce, "name": name, **orders}), mac)


def plain(console: str) -> str:
    """Return a console's text without the sequences that move, colour or clear (ECMA-48, 5.4 and 8.2)."""
    return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|[ -/]*[0-~])|[\0-\x08\x0b-\x1f\x7f]", "", console)


def _traces(container: Container, guest: Guest) -> str:
    """Return the ends of console and logs, and the screen's text; for errors."""
    qemu = (
        container.run("tail", "-n", "5", f"{container.mode.image.logs}/{guest.name}.log").text
        if container.running
        else ""
    )
    return (
        f"console ends with:\n{plain(guest.console)[-CONSOLE_EXCERPT:] or '(nothing)'}\n{_screen_text(guest)}"
        f"QEMU's log ends with:\n{qemu or '(nothing)'}\n{container.describe()}"
    )


def _screen_text(guest: Guest) -> str:
    """Return the screen's text, and the paths of its screenshots; empty for a guest without a screen."""
    if not guest.spec.screen:
        return ""
    picture = f"screenshot: {guest.picture}\n" if guest.picture else ""
    return f"the screen shows:\n{guest.screen.describe()}\n{picture}"
