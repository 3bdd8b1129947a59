"""Tables of measured needs beside documented ones: a pure function of the contract and the configurations."""

import re
from collections.abc import Callable, Iterable, Sequence

from conformance.model import commands, mode
from conformance.model.contract import Contract, Switch
from conformance.model.exposure import Exposure
from conformance.model.record import names
from conformance.privileges.claims import Holds, Measured, Part, things
from conformance.privileges.configuration import LEAST, Answer
from conformance.privileges.search import starts_apart
from conformance.report.markdown import IMAGE, exposure_text, fingerprint, literal, numbered, table

PROBE = re.compile(r"probe-[0-9a-f]+")
"""A guest's name, removed from reasons so that equal ones become one note."""

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
    """Return the functions that make the generated blocks, by their names."""
    return {
        "privileges": lambda: documented(contract, found),
        "privileges-in-detail": lambda: details(contract, found),
        "recommended": lambda: recommended(contract),
    }


def documented(contract: Contract, found: Sequence[Measured]) -> str:
    """Compare each documented exposure with the measurements on each host.

    Of a host's searches, the first one counts that removed the exposure from its mode.
    """
    if not found:
        return NOTHING
    hosts = {one.host.identity: [each for each in found if each.host.identity == one.host.identity] for one in found}
    called = names(one.host for one in found)
    rows = []
    for one in contract.exposures:
        cells = [_measured(contract, searches, one.id) for searches in hosts.values()]
        if one.documented not in ("default", "undocumented") and any(cells):
            rows.append([f"`{exposure_text(one)}`", one.documented, *cells])
    return table(
        ["Exposure", "Documented as", *(f"Measured on {literal(called[identity])}" for identity in hosts)], rows
    )


def _measured(contract: Contract, searches: Sequence[Measured], exposure: str) -> str:
    """Return the finding of one host's searches about an exposure; empty if none of their modes has it."""
    parts = [(one, part) for one in searches for part in one.parts if part.id == exposure]
    if not parts:
        return ""
    found, part = next(((one, part) for one, part in parts if _known(part)), parts[0])
    if not _known(part):
        return NOT_RUN
    need = f"needed: {_broken(contract, found, part)}" if part.breaks else "not needed"
    where = f", in `{found.mode}`" if found is not searches[0] else ""
    if part.holds is Holds.OPEN:
        return f"{need} by the tested features{where}"
    return f"{need}{where}; {WORDS[part.holds]}"


def _known(part: Part) -> bool:
    return part.asked or bool(part.breaks)


def _broken(contract: Contract, found: Measured, part: Part) -> str:
    """List the features that break without a part, as exceptions from all where that is shorter."""
    left = {*found.findings.needs} - {*part.breaks}
    if not part.asked or part.unknown or len(left) >= len(part.breaks):
        return _features(contract, part.breaks)
    return f"all but {_features(contract, left)}" if left else "all"


def details(contract: Contract, found: Sequence[Measured]) -> str:
    """Return all findings of the searches, one after the other."""
    called = names(one.host for one in found)
    return "\n\n".join(_detail(contract, one, called[one.host.identity]) for one in found) if found else NOTHING


def _detail(contract: Contract, found: Measured, host: str) -> str:
    state = "" if found.findings.complete else " The search is not finished."
    apart = starts_apart(found.search, found.findings)
    starts = f"{found.findings.starts} starts, {apart} if each feature is searched alone"
    lines = [
        f"### `{found.mode}` on {literal(host)}",
        "",
        f"{literal(fingerprint(found.host))}. {starts}.{state}",
        *(
            f"Cannot be tested there: {_title(contract, one)}, because {literal(why.rstrip('.'))}."
            for one, why in found.unasked.items()
        ),
        *([f"Not tested: {_features(contract, found.left_out)}."] if found.left_out else []),
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
    for part in filter(_known, found.parts):
        broken = _broken(contract, found, part) if part.breaks else "nothing"
        if part.unknown:
            broken += f"; cannot be tested: {_features(contract, part.unknown)}"
        why = _marks(contract, found, [*part.breaks.values(), *part.unknown.values()], notes)
        rows.append(
            [
                f"`{_word(by_id[part.id])}`",
                _need(by_id[part.id]),
                broken + why,
                ("yes" if part.confirmed else "**no**") if part.breaks else "",
                ("yes" if part.named else "**no**") if part.breaks else "",
                WORDS[part.holds],
            ]
        )
    head = [
        "Removed",
        "Documented as",
        "Broken by the removal",
        "Confirmed",
        "Named in the log",
        "Claim",
    ]
    unknown = [f"`{_word(by_id[part.id])}`" for part in found.parts if not _known(part)]
    lines = [_noted(head, rows, notes)]
    return "\n".join([*lines, *(["", f"*Not run*: without {', '.join(unknown)}."] if unknown else [])])


def _marks(contract: Contract, found: Measured, answers: Iterable[Answer], notes: list[str]) -> str:
    """Return the numbers of the notes with the reasons; add missing notes."""
    marks = set()
    for said in answers:
        # Records from before the contract knew the cause match too.
        cause = contract.recognise(f"{said.reason}\n{said.error}", found.host.security)
        note = cause.explanation if cause else PROBE.sub("probe", said.reason.strip())
        if note not in notes:
            notes.append(note)
        marks.add(notes.index(note) + 1)
    return f" <sup>{', '.join(map(str, sorted(marks)))}</sup>" if marks else ""


def _noted(head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table with its notes below it."""
    if not rows:
        return NOTHING
    return "\n".join([table(head, rows), *(["", numbered(notes)] if notes else [])])


def _smallest(contract: Contract, found: Measured) -> str:
    order = [one.id for one in things(contract)]
    by_id = {one.id: one for one in things(contract)}

    def listed(kept: Iterable[str]) -> str:
        return ", ".join(f"`{_word(by_id[one])}`" for one in sorted(kept, key=order.index)) or "nothing"

    rows = [[_title(contract, feature), listed(kept)] for feature, kept in found.findings.least_for.items()]
    least = found.findings.least
    if least is None and not rows:
        return "No smallest set is known yet."
    if least is None:
        return table(["Feature", "A smallest set"], rows)
    rows.append(["**All of them**", listed(least)])
    recommended = {*contract.mode(LEAST).exposures}
    beside = [f"`{LEAST}` also has {listed(recommended - least)}" if recommended - least else ""]
    beside += [f"`{LEAST}` lacks {listed(least - recommended)}" if least - recommended else ""]
    said = "; ".join(filter(None, beside)) or f"`{LEAST}` has exactly this set"
    text = f"{table(['Feature', 'A smallest set'], rows)}\n\nCompared with the set for all: {said}."
    if not found.findings.complete:
        return text
    return f"{text}\n\nEach part of that set is necessary:\n\n{_last(contract, found)}"


def _last(contract: Contract, found: Measured) -> str:
    """Return the features that break when the smallest set for all features loses a part."""
    notes: list[str] = []
    rows = []
    by_id = {one.id: one for one in things(contract)}
    for part in found.parts:
        if not part.last:
            continue
        fails = [feature for feature, said in part.last.items() if said.verdict == "fails"]
        unknown = [feature for feature in part.last if feature not in fails]
        seen = ["all" if {*fails} == {*found.findings.needs} else _features(contract, fails)] if fails else []
        seen += [f"cannot be tested: {_features(contract, unknown)}"] if unknown else []
        why = _marks(contract, found, part.last.values(), notes)
        rows.append([f"`{_word(by_id[part.id])}`", "; ".join(seen) + why])
    return _noted(["Removed", "Broken by the removal"], rows, notes)


def recommended(contract: Contract, less: str = LEAST, more: str = "unprivileged-unconfined") -> str:
    """Render a mode as a command and as a Compose file, and list the privileges that another mode grants beside."""
    lesser, greater = mode.from_contract(contract, less), mode.from_contract(contract, more)
    gone = [one for one in greater.exposures if one not in lesser.exposures]
    dropped = sorted(greater.granted - lesser.granted - {one.id for one in gone})
    lines = [
        f"```sh\n{commands.shell(commands.docker_run(lesser, IMAGE))}\n```",
        "As a Compose file:",
        f"```yaml\n{commands.compose(lesser, IMAGE)}```",
        f"Privileges of `{more}` that `{less}` does not grant:",
        "\n".join(
            [
                *(f"- `{exposure_text(one)}`: {one.function}" for one in gone),
                f"- default capabilities of the engine: {', '.join(f'`{one}`' for one in dropped)}",
            ]
        ),
    ]
    return "\n\n".join(lines)


def _features(contract: Contract, features: Iterable[str]) -> str:
    wanted = {*features}
    return ", ".join(one.title for one in contract.features if one.id in wanted)


def _title(contract: Contract, feature: str) -> str:
    return contract.feature(feature).title


def _word(one: Exposure | Switch) -> str:
    return f"{one.variable}={one.off}" if isinstance(one, Switch) else exposure_text(one)


def _need(one: Exposure | Switch) -> str:
    return "" if isinstance(one, Switch) else one.documented
