"""Saving a guest into a file, and reverting it to a snapshot."""

import contextlib
from collections.abc import Iterator

import libvirt

from conformance.guests.running import RunningGuest


@contextlib.contextmanager
def saved(guest: RunningGuest) -> Iterator[None]:
    """Save a guest into a file, and restore it at the end.

    Raises:
        libvirt.libvirtError: the daemon refused.
    """
    session = guest.session
    file = f"{session.container.mode.image.images}/{session.guest.name}.save"
    session.domain.save(file)
    try:
        yield
        session.connection.restoreFlags(file, None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
        session.resume_in_new_process(session.guest.report.number)
    finally:
        session.container.run("rm", "--force", file)


@contextlib.contextmanager
def reverted(guest: RunningGuest) -> Iterator[None]:
    """Take a snapshot of a guest, and revert to it at the end.

    Raises:
        libvirt.libvirtError: the daemon refused.
    """
    session = guest.session
    number = session.observe().report.number
    snapshot = session.domain.snapshotCreateXML("<domainsnapshot/>")
    try:
        yield
        session.domain.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED)
        session.resume_in_new_process(number)
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            snapshot.delete()
