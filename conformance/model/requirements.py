"""Required verdicts: a runner that lost an ability, such as KVM, must not report success."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from conformance.errors import ContractError
from conformance.model import matrix
from conformance.model.contract import Contract, Feature
from conformance.model.fingerprint import HostFingerprint
from conformance.model.record import Record
from conformance.model.verdict import Verdict

ABILITIES = ("apparmor", "selinux", "seccomp", "cgroup1", "cgroup2")
"""Abilities of a host that can be required; its engine reports them."""


@dataclass(frozen=True)
class Required:
    """The requirements of a session, names of the contract or of :data:`ABILITIES`.

    Attributes:
        features: features that need a verdict in every chosen mode.
        modes: modes in which at least one feature needs a verdict.
        abilities: abilities that the host needs.
    """

    features: tuple[Feature, ...] = ()
    modes: tuple[str, ...] = ()
    abilities: tuple[str, ...] = ()


def parse(contract: Contract, names: Iterable[str]) -> Required:
    """Return the requirements for names of features (id or marker), modes and abilities.

    Raises:
        ContractError: a name is unknown; the error lists the known ones.
    """
    features = {name: feature for feature in contract.features for name in (feature.id, feature.marker)}
    modes = {claims.id for claims in contract.modes}
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in features and name not in modes and name not in ABILITIES:
            known = [*(feature.marker for feature in contract.features), *sorted(modes), *ABILITIES]
            raise ContractError(f"--require does not know {name!r}", f"choose one of: {', '.join(known)}")
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
    """Return one line for each requirement that is not met.

    Args:
        required: the requirements.
        contract: the contract, for features and causes.
        records: the session's records.
        asked: the chosen modes.
        fingerprint: the host's facts.
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
            f"{ability}: the host's engine does not report it"
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
        return f"{_verdict_text(Verdict.NOT_RUN)}: {feature.unasked or 'it was not selected'}"
    return f"{_verdict_text(cell.verdict)}: {'; '.join(cell.reasons)}"


def _why_mode(cells: Sequence[matrix.Cell]) -> str:
    reasons = dict.fromkeys(f"{_verdict_text(cell.verdict)}: {'; '.join(cell.reasons)}" for cell in cells)
    return "; ".join(reasons) or "no feature was selected in it"


def _verdict_text(verdict: Verdict) -> str:
    return str(verdict).replace("-", " ")
