"""Modes that an engine's host cannot run, found before a run without a container of the mode.

A mode may still turn out to be untestable in its container: when the engine grants less than the mode declares, or the
host refuses an AppArmor profile.
"""

from collections.abc import Sequence

import docker
import docker.errors
from docker.types import Ulimit

from conformance.engine.host_shell import HostShell
from conformance.engine.refusals import ungranted
from conformance.errors import EngineError, EngineGone, Unsupported
from conformance.host import char_devices
from conformance.host.pci import PciPool
from conformance.model import mode as modes
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.model.mode import Mode

NOTHING = ["true"]
"""The program of a trial container; where an image lacks it, the engine's refusal is about something else."""


def unsupported(
    contract: Contract, fingerprint: HostFingerprint, shell: HostShell, pool: PciPool, chosen: Sequence[Mode]
) -> dict[str, str]:
    """Return in one line why modes cannot run on a host, by the modes' ids; modes that can run are not in it.

    Args:
        contract: for the image and the modes that equal others.
        fingerprint: the host's facts.
        shell: on the host.
        pool: the host's spare PCI devices.
        chosen: the modes.

    Raises:
        EngineGone: the engine is gone.
        HarnessError: a spare PCI device is unfit.
    """
    reasons = {mode.id: declared(contract, fingerprint, mode) or _lacking(shell, pool, mode) for mode in chosen}
    trials = _Trials(shell)
    for mode in chosen:
        if not reasons[mode.id]:
            reasons[mode.id] = trials.refusal(mode)
    return {mode: reason for mode, reason in reasons.items() if reason}


def declared(contract: Contract, fingerprint: HostFingerprint, mode: Mode) -> str:
    """Return why a mode is not tested, by the contract and the host's facts alone; empty if it is."""
    if contract.image.auth != "none":
        return f"the image requires authentication by {contract.image.auth.upper()}, which the harness does not support"
    for module, title in modes.MODULES.items():
        if module not in fingerprint.security and (equal := modes.without_module(contract, mode, module)):
            return f"same as {equal} on hosts without {title}"
    return ""


def _lacking(shell: HostShell, pool: PciPool, mode: Mode) -> str:
    """Return which driver or device of a mode the host lacks; empty if it has all."""
    try:
        char_devices.majors(shell, mode.drivers)
        if mode.vfio:
            _ = pool.devices
    except Unsupported as error:
        return str(error)
    return ""


class _Trials:
    """Containers that do nothing, with the privileges of modes; modes with the same privileges share one."""

    def __init__(self, shell: HostShell) -> None:
        self._shell = shell
        self._refusals: dict[tuple[object, ...], str] = {}

    def refusal(self, mode: Mode) -> str:
        """Return in one line why the engine cannot grant a mode's privileges; empty if it can."""
        key = (mode.privileged, mode.granted, tuple(mode.unlimited))
        if key not in self._refusals:
            self._refusals[key] = self._try(mode)
        return self._refusals[key]

    def _try(self, mode: Mode) -> str:
        try:
            self._shell.output(
                NOTHING,
                privileged=mode.privileged,
                cap_add=mode.capabilities or None,
                cap_drop=None if mode.default_capabilities else ["ALL"],
                ulimits=[Ulimit(name=name, soft=-1, hard=-1) for name in mode.unlimited] or None,
            )
        except EngineGone:
            raise
        except EngineError as error:
            cause = error.__cause__
            return ungranted(cause.explanation or "") if isinstance(cause, docker.errors.APIError) else ""
        return ""
