"""What a session is required to have decided: a runner that lost what it promises must not be green."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from conformance.errors import ContractError
from conformance.model import matrix
from conformance.model.contract import Contract, Feature
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Record
from conformance.model.verdict import Verdict

ABILITIES = ("apparmor", "selinux", "seccomp", "cgroup1", "cgroup2")
"""What a host can be required to have beside what is asked of the image; its engine tells."""


@dataclass(frozen=True)
class Required:
    """What has to be there, each a name of the contract or one of :data:`ABILITIES`.

    Attributes:
        features: each has to be decided in every mode that is asked.
        modes: in each at least one feature has to be decided.
        abilities: the host has to have each.
    """

    features: tuple[Feature, ...] = ()
    modes: tuple[str, ...] = ()
    abilities: tuple[str, ...] = ()


def parse(contract: Contract, names: Iterable[str]) -> Required:
    """Tell names apart: features by their id or marker, modes, abilities of the host.

    Raises:
        ContractError: nothing is called so; lists what is.
    """
    features = {name: feature for feature in contract.features for name in (feature.id, feature.marker)}
    modes = {claims.id for claims in contract.modes}
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in features and name not in modes and name not in ABILITIES:
            known = [*(feature.marker for feature in contract.features), *sorted(modes), *ABILITIES]
            raise ContractError(f"nothing that can be required is called {name!r}", f"choose of: {', '.join(known)}")
    return Required(
        features=tuple(dict.fromkeys(features[name] for name in wanted if name in features)),
        modes=tuple(name for name in wanted if name in modes),
        abilities=tuple(name for name in wanted if name in ABILITIES),
    )


def missing(
    required: Required,
    contract: Contract,
    records: Iterable[Record],
    *,
    asked: Sequence[str],
    fingerprint: HostFingerprint,
) -> list[str]:
    """Return one line for each thing that was required and is not there.

    Args:
        required: what has to be there.
        contract: what records are read by.
        records: of this session.
        asked: the modes that were chosen.
        fingerprint: of the host.
    """
    hosts = matrix.build(contract, records)
    cells = hosts[0].cells if hosts else {}
    return [
        *(
            f"{feature.id} in {mode}: {_why(cells.get((feature.id, mode)), feature)}"
            for feature in required.features
            for mode in asked
            if not _decided(cells.get((feature.id, mode)))
        ),
        *(
            f"mode {mode}: {_why_mode([cell for (_, where), cell in cells.items() if where == mode])}"
            for mode in required.modes
            if not any(_decided(cell) for (_, where), cell in cells.items() if where == mode)
        ),
        *(
            f"{ability}: the host's engine does not have it"
            for ability in required.abilities
            if ability not in _abilities(fingerprint)
        ),
    ]


def _abilities(fingerprint: HostFingerprint) -> Collection[str]:
    return {*fingerprint.security, f"cgroup{fingerprint.cgroup_version}"}


def _decided(cell: matrix.Cell | None) -> bool:
    return cell is not None and cell.verdict.decided


def _why(cell: matrix.Cell | None, feature: Feature) -> str:
    if cell is None:
        return f"{_said(Verdict.NOT_RUN)}: {feature.unasked or 'it was not asked'}"
    return f"{_said(cell.verdict)}: {'; '.join(cell.reasons)}"


def _why_mode(cells: Sequence[matrix.Cell]) -> str:
    reasons = dict.fromkeys(f"{_said(cell.verdict)}: {'; '.join(cell.reasons)}" for cell in cells)
    return "; ".join(reasons) or "nothing was asked in it"


def _said(verdict: Verdict) -> str:
    return str(verdict).replace("-", " ")
