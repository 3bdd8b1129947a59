"""The driver vfio-pci, and changing a PCI device of the engine's host from its own driver to vfio-pci and back."""

import shlex
from collections.abc import Sequence
from typing import Any

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.engine.refusals import CANNOT_GRANT
from conformance.errors import EngineError, Unsupported
from conformance.host.change import HostChange
from conformance.model.commands import BINDING

DRIVER = "vfio-pci"

SECONDS = 120
"""Deadline of one script on the host."""

RETURNING = (
    'echo >"/sys/bus/pci/devices/$PCI/driver_override"',
    '[ ! -e "/sys/bus/pci/devices/$PCI/driver" ] || echo "$PCI" >"/sys/bus/pci/devices/$PCI/driver/unbind"',
    'echo "$PCI" >/sys/bus/pci/drivers_probe',
)
"""Bind a device to the host's own driver."""

LEFT = "left"

RECLAIMING = (
    "at=/sys/bus/pci/devices/$PCI",
    f'[ "$(cat /proc/sys/kernel/random/boot_id)" = "$BOOT" ] && [ -e "$at" ] || {{ echo {LEFT}; exit; }}',
    'case $(basename "$(readlink "$at/driver")") in',
    f'    "" | {DRIVER}) ;;',
    f'    *) [ "$(cat "$at/driver_override")" != {DRIVER} ] || echo >"$at/driver_override"; echo {LEFT}; exit ;;',
    "esac",
    *RETURNING,
)
"""The same for a device in an unknown state: a device that its own driver has by now may be in use, and stays there.

After another boot the device stays as the host is configured, perhaps with vfio-pci.
"""

NOW = 'basename "$(readlink "/sys/bus/pci/devices/$1/driver")"'


class NotGrantedError(Unsupported):
    """The engine starts no privileged container, so that nobody can change its host."""


def state(address: str, driver: str, boot: str) -> str:
    """Return the text by which :data:`CHANGE` remembers a device.

    Args:
        address: in the host.
        driver: the host's own for the device.
        boot: ID of the host's boot: after another one the host may use the device otherwise.
    """
    return f"{address} {driver} {boot}"


def bind(shell: HostShell, remembered: str) -> None:
    """Bind a device to vfio-pci.

    Args:
        shell: on the host, with chroot.
        remembered: see :func:`state`.

    Raises:
        NotGrantedError: the engine starts no privileged container; nothing has changed.
        Unsupported: the device does not change to vfio-pci.
        EngineError: the engine refused.
    """
    found = _change(shell, remembered, BINDING)
    if found != DRIVER:
        address = remembered.partition(" ")[0]
        raise Unsupported(f"the host does not bind {address} to {DRIVER}: {found}")


def restore(shell: HostShell, remembered: str) -> str:
    """Bind a device to the host's own driver, unless that driver has it already or the host has booted since.

    Args:
        shell: on the host, with chroot.
        remembered: see :func:`state`.

    Raises:
        EngineError: the driver does not take the device, or the engine refused.
    """
    address, driver, _boot = remembered.split(" ")
    try:
        found = _change(shell, remembered, RECLAIMING)
    except NotGrantedError:
        found = run(shell, NOW, address)
    if found not in (driver, LEFT):
        raise EngineError(
            f"the host's driver {driver} does not take {address} back: {found}",
            f"run as root on that host: export PCI={address}; {'; '.join(RETURNING)}",
        )
    return f"PCI device {address}: bound to its own driver again"


CHANGE = HostChange(labels.PCI_DEVICE, restore)
"""A device that a guest gets; the label holds its :func:`state`."""


def _change(shell: HostShell, remembered: str, lines: Sequence[str]) -> str:
    """Run lines in a shell of the host's root and return the device's driver afterwards, or the lines' errors."""
    address, _driver, boot = remembered.split(" ")
    known = [f"PCI={shlex.quote(address)}", f"BOOT={shlex.quote(boot)}"]
    try:
        return run(
            shell,
            'exec chroot /host sh -c "$1"',
            "\n".join(["set -e", *known, *lines, 'set -- "$PCI"', NOW]),
            privileged=True,
            binds=["/:/host"],
        )
    except EngineError as error:
        if CANNOT_GRANT.search(str(error)):
            raise NotGrantedError(
                "PCI devices cannot change their driver: the engine starts no privileged container"
            ) from error
        raise


def run(shell: HostShell, script: str, *words: str, **options: Any) -> str:
    """Return a script's output without the white space around it."""
    return shell.run(script, *words, seconds=SECONDS, **options).strip()
