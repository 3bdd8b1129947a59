"""The generated blocks of README and docs/ that contract and records decide, by their names."""

from collections.abc import Callable, Iterable

from conformance.model import matrix
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.report import compatibility, hardening, markdown, overview


def makers(contract: Contract, records: Iterable[Record]) -> dict[str, Callable[[], str]]:
    """Return the makers of all blocks, by name."""
    known = list(records)
    hosts = matrix.build(contract, known)
    return {
        "numbers": lambda: overview.numbers(contract, hosts, known),
        "which-mode": lambda: overview.which_mode(contract, hosts),
        "at-a-glance": lambda: overview.at_a_glance(contract, hosts),
        "quick-start": lambda: overview.quick_start(contract),
        "matrix": lambda: compatibility.matrices(contract, hosts),
        "verdicts": markdown.verdicts,
        "features": lambda: markdown.features(contract),
        "profiles": lambda: markdown.profiles(contract),
        "modes": lambda: markdown.modes(contract),
        "commands": lambda: markdown.commands(contract),
        "parameters": lambda: markdown.parameters(contract),
        "volumes": lambda: markdown.volumes(contract),
        "exposures": lambda: markdown.exposures(contract),
        "confinements": lambda: hardening.confinements(contract, known),
        "given-away": lambda: markdown.given_away(contract, known),
    }
