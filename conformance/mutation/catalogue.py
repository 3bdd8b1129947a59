"""All mutants of the image, and their selection."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest

from conformance.errors import ContractError
from conformance.mutation import arguments, default_objects, dockerfile, firewall, settings, shell
from conformance.mutation.mutant import ImageFiles, Mutant
from conformance.mutation.observation import Observation


def mutants(source: ImageFiles, observed: Observation) -> list[Mutant]:
    """Return the mutants of an image, each once."""
    found = [
        *settings.settings(source),
        *shell.shell(source),
        *default_objects.objects(source),
        *settings.confinement(source),
        *arguments.processes(),
        *dockerfile.environment(source),
        *dockerfile.left_out(source, observed.takes_along),
        *firewall.firewall(observed),
        *arguments.arguments(observed),
    ]
    return list({one.id: one for one in found}.values())


def chosen(
    known: Sequence[Mutant],
    *,
    ids: Collection[str] = (),
    kinds: Collection[str] = (),
    files: Collection[str] = (),
    before: Collection[str] = (),
) -> list[Mutant]:
    """Return the mutants that meet every condition, in the order of their tests.

    Args:
        known: all mutants.
        ids: their ids; any if empty, as with the other conditions.
        kinds: their kinds.
        files: their files.
        before: ids that another revision of the image has too.

    Raises:
        ContractError: no mutant has such an id, kind or file.
    """
    for what, wanted, there in (
        ("id", ids, {one.id for one in known}),
        ("kind", kinds, {one.kind for one in known}),
        ("file", files, {one.file for one in known}),
    ):
        for one in set(wanted) - there:
            listed = (
                "choose from the list: conformance mutate --list" if what == "id" else f"choose from {sorted(there)}"
            )
            raise ContractError(f"no mutant has the {what} {one!r}", listed)
    return interleaved(
        one
        for one in known
        if (not ids or one.id in ids)
        and (not kinds or one.kind in kinds)
        and (not files or one.file in files)
        and one.id not in before
    )


def interleaved(found: Iterable[Mutant]) -> list[Mutant]:
    """Order mutants so that each beginning of the list is a sample of all kinds: by a hash within each kind."""
    groups: dict[str, list[Mutant]] = defaultdict(list)
    for one in sorted(found, key=lambda mutant: hashlib.sha256(mutant.id.encode()).digest()):
        groups[one.kind].append(one)
    return [one for row in zip_longest(*groups.values()) for one in row if one]
