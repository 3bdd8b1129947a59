"""Tables of what was measured, beside what is documented: a pure function of the contract and the configurations."""

from collections.abc import Callable, Iterable, Sequence

from conformance import mode
from conformance.contract import Contract, Exposure, Switch
from conformance.privileges.claims import Holds, Measured, Part, things
from conformance.privileges.search import starts_apart
from conformance.tables import IMAGE, fingerprint, shown, table

LEAST = "least"
"""The mode that is recommended."""

NOTHING = "Nothing has been recorded yet."
NOT_RUN = "*not run*"

WORDS = {
    Holds.HOLDS: "holds",
    Holds.TOO_STRICT: "**too strict**",
    Holds.TOO_LAX: "**too lax**",
    Holds.SILENT: "",
    Holds.OPEN: "open",
}


def makers(contract: Contract, found: Sequence[Measured]) -> dict[str, Callable[[], str]]:
    """Return what makes the generated blocks, by their names."""
    return {
        "privileges": lambda: documented(contract, found),
        "privileges-in-detail": lambda: details(contract, found),
        "recommended": lambda: recommended(contract),
    }


def documented(contract: Contract, found: Sequence[Measured]) -> str:
    """Put each documented exposure beside what each search measured of it."""
    if not found:
        return NOTHING
    rows = []
    for one in contract.exposures:
        parts = [_part(each, one.id) for each in found]
        if one.documented in ("default", "undocumented") or not any(parts):
            continue
        rows.append([f"`{shown(one)}`", one.documented, *(_measured(contract, part) for part in parts)])
    return table(["Exposure", "Documented as", *(f"Measured on {_place(one, found)}" for one in found)], rows)


def _measured(contract: Contract, part: Part | None) -> str:
    if part is None:
        return ""
    if not part.asked and not part.breaks:
        return NOT_RUN
    if part.holds is Holds.OPEN:
        return "not needed by what was asked"
    need = f"needed: {_features(contract, part.breaks)}" if part.breaks else "not needed"
    return f"{need}; {WORDS[part.holds]}"


def details(contract: Contract, found: Sequence[Measured]) -> str:
    """Give everything that the searches found, one after the other."""
    return "\n\n".join(_detail(contract, one) for one in found) if found else NOTHING


def _detail(contract: Contract, found: Measured) -> str:
    state = "" if found.findings.complete else " The search is not finished."
    starts = f"{found.findings.starts} starts, {starts_apart(found.search, found.findings)} with each feature by itself"
    lines = [
        f"### `{found.mode}` on {found.host.name}",
        "",
        f"{fingerprint(found.host)}. {starts}.{state}",
        *(
            f"Not asked there: {_title(contract, one)}, because {why.rstrip('.')}."
            for one, why in found.unasked.items()
        ),
        *([f"Asked by nobody: {_features(contract, found.left_out)}."] if found.left_out else []),
        *(f"Does not work in the whole mode: {_title(contract, one)}." for one in sorted(found.findings.broken)),
        "",
        _one_at_a_time(contract, found),
        "",
        _smallest(contract, found),
    ]
    return "\n".join(lines)


def _one_at_a_time(contract: Contract, found: Measured) -> str:
    notes: list[str] = []
    rows = []
    by_id = {one.id: one for one in things(contract)}
    for part in found.parts:
        marks = []
        for said in part.breaks.values():
            # What was recorded before the contract knew the cause is recognised as well.
            cause = contract.recognise(said.reason)
            note = cause.explanation if cause else said.reason.strip()
            if note not in notes:
                notes.append(note)
            marks.append(notes.index(note) + 1)
        broken = _features(contract, part.breaks) or ("nothing" if part.asked else NOT_RUN)
        where = f" <sup>{', '.join(map(str, sorted({*marks})))}</sup>" if marks else ""
        rows.append(
            [
                f"`{_word(by_id[part.id])}`",
                _need(by_id[part.id]),
                broken + where,
                ("yes" if part.confirmed else "**no**") if part.breaks else "",
                ("yes" if part.named else "**no**") if part.breaks else "",
                WORDS[part.holds],
            ]
        )
    head = [
        "Taken away",
        "Documented as",
        "What does not work then",
        "Twice, and mended",
        "Named at start",
        "The claim",
    ]
    return "\n".join([table(head, rows), "", *(f"{place}. {note}" for place, note in enumerate(notes, start=1))])


def _smallest(contract: Contract, found: Measured) -> str:
    order = [one.id for one in things(contract)]
    by_id = {one.id: one for one in things(contract)}

    def listed(kept: Iterable[str]) -> str:
        return ", ".join(f"`{_word(by_id[one])}`" for one in sorted(kept, key=order.index)) or "nothing"

    rows = [[_title(contract, feature), listed(kept)] for feature, kept in found.findings.least_for.items()]
    least = found.findings.least
    if least is None:
        return table(["Feature", "A smallest set"], rows)
    rows.append(["**All of them**", listed(least)])
    recommended = {*contract.mode(LEAST).exposures}
    beside = [f"beyond it, `{LEAST}` has {listed(recommended - least)}" if recommended - least else ""]
    beside += [f"`{LEAST}` lacks {listed(least - recommended)}" if least - recommended else ""]
    said = "; ".join(filter(None, beside)) or f"this is what `{LEAST}` has"
    return f"{table(['Feature', 'A smallest set'], rows)}\n\nOf the set for all: {said}."


def recommended(contract: Contract, less: str = LEAST, more: str = "unprivileged-unconfined") -> str:
    """Render a mode as a command and as a Compose file, and list what another one gives that it does without."""
    lesser, greater = mode.of(contract, less), mode.of(contract, more)
    gone = [one for one in greater.exposures if one not in lesser.exposures]
    dropped = sorted(greater.granted - lesser.granted - {one.id for one in gone})
    lines = [
        f"```sh\n{mode.shell(lesser.docker_run(IMAGE))}\n```",
        "As a Compose file:",
        f"```yaml\n{lesser.compose(IMAGE)}```",
        f"What `{more}` gives a container, and `{less}` does not:",
        "\n".join(
            [
                *(f"- `{shown(one)}`: {one.function}" for one in gone),
                f"- of what an engine gives without being asked: {', '.join(f'`{one}`' for one in dropped)}",
            ]
        ),
    ]
    return "\n\n".join(lines)


def _part(found: Measured, part: str) -> Part | None:
    return next((one for one in found.parts if one.id == part), None)


def _place(found: Measured, every: Sequence[Measured]) -> str:
    several = sum(one.host.name == found.host.name for one in every) > 1
    return found.host.name + (f", `{found.mode}`" if several else "")


def _features(contract: Contract, features: Iterable[str]) -> str:
    wanted = {*features}
    return ", ".join(one.title for one in contract.features if one.id in wanted)


def _title(contract: Contract, feature: str) -> str:
    return contract.feature(feature).title


def _word(one: Exposure | Switch) -> str:
    return f"{one.variable}={one.off}" if isinstance(one, Switch) else shown(one)


def _need(one: Exposure | Switch) -> str:
    return "" if isinstance(one, Switch) else one.documented
