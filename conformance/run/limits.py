"""Modes that an engine's host cannot run, found before a run without a container of the mode.

A mode may still turn out to be untestable in its container: when the engine grants less than the mode declares, or the
host refuses an AppArmor profile.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    possible = [mode for mode in chosen if not reasons[mode.id]]
    trials = _Trials(shell, possible)
    reasons |= {mode.id: trials.refusal(mode) for mode in possible}
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
    """Containers that do nothing, with privileges of modes; each combination is tried once.

    Args:
        shell: on the host.
        chosen: modes; if the engine grants the capabilities of all together, it grants those of each.
    """

    def __init__(self, shell: HostShell, chosen: Sequence[Mode]) -> None:
        self._shell = shell
        self._together = sorted({one for mode in chosen if not mode.privileged for one in mode.granted})
        self._refusals: dict[str, str] = {}

    def refusal(self, mode: Mode) -> str:
        """Return in one line why the engine cannot grant a mode's privileges; empty if it can."""
        if mode.privileged:
            return self._try(privileged=True)
        capabilities = self._granting(self._together) and self._granting(sorted(mode.granted))
        return capabilities or (self._lifting(mode.unlimited) if mode.unlimited else "")

    def _granting(self, capabilities: Sequence[str]) -> str:
        return self._try(cap_add=list(capabilities), cap_drop=["ALL"])

    def _lifting(self, limits: Sequence[str]) -> str:
        return self._try(ulimits=[Ulimit(name=name, soft=-1, hard=-1) for name in limits])

    def _try(self, **privileges: Any) -> str:
        if (key := repr(privileges)) not in self._refusals:
            self._refusals[key] = self._refusal(privileges)
        return self._refusals[key]

    def _refusal(self, privileges: Mapping[str, Any]) -> str:
        try:
            self._shell.output(NOTHING, **privileges)
        except EngineGone:
            raise
        except EngineError as error:
            cause = error.__cause__
            return ungranted(cause.explanation or "") if isinstance(cause, docker.errors.APIError) else ""
        return ""
