"""The project's own AppArmor profiles in the kernel of the engine's host.

The host's own ``apparmor_parser`` loads them; Docker loads its profile with the same program.
"""

from conformance.engine import labels
from conformance.engine.host_shell import HostShell
from conformance.errors import Unsupported
from conformance.host.change import HostChange, forget
from conformance.util import paths

FOLDER = paths.IMAGE / "apparmor"

LOAD = r"""
! grep -qs "^$1 " /host/sys/kernel/security/apparmor/profiles || echo known
printf %s "$2" | chroot /host apparmor_parser --replace && echo loaded
"""

UNLOAD = r"""
grep -qs "^$1 " /host/proc/[0-9]*/attr/current || printf %s "$2" | chroot /host apparmor_parser --remove
"""
"""A profile that confines a process, such as another run's container, stays: nothing would confine that process."""


def load(shell: HostShell, name: str) -> None:
    """Load a profile, in place of one of that name.

    A profile that the host did not have is removed again at the end of the run (:data:`CHANGE`).

    Args:
        shell: on the host, with chroot.
        name: the profile's, and its file's.

    Raises:
        Unsupported: the host refuses the profile.
        EngineError: the engine refused.
    """
    volume = CHANGE.remember(shell, name)
    output = _run(shell, LOAD, name).split()
    if "loaded" not in output or "known" in output:
        forget(shell.client, volume)
    if "loaded" not in output:
        raise Unsupported(f"the engine's host does not load the AppArmor profile {name}: {' '.join(output)}")


def _unload(shell: HostShell, name: str) -> str:
    """Remove a profile that confines no process."""
    _run(shell, UNLOAD, name)
    return f"AppArmor profile {name}"


CHANGE = HostChange(labels.PROFILE, _unload)
"""A profile that the host did not have; the label holds its name."""


def _run(shell: HostShell, script: str, name: str) -> str:
    return shell.run(
        script,
        name,
        (FOLDER / name).read_text(encoding="utf-8"),
        binds=["/:/host"],
        cap_add=["MAC_ADMIN"],
        security_opt=["apparmor=unconfined"],
    )
