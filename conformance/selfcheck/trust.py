"""The tables of docs/trust.md: a pure function of the changes and their outcomes."""

from collections.abc import Callable, Iterable, Sequence

from conformance.model.contract import Contract
from conformance.model.record import names
from conformance.report.markdown import fingerprint, literal, table
from conformance.selfcheck.change import HARNESS, Change
from conformance.selfcheck.outcome import Outcome, Result

ITSELF = "The harness itself"

COLUMNS = (Result.CAUGHT, Result.WRONG, Result.MISSED, Result.NOT_RUN)


def makers(contract: Contract, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> dict[str, Callable[[], str]]:
    """Return the functions that make the generated blocks, by their names."""
    return {
        "trust": lambda: _on_each(outcomes, lambda found: _scores(contract, changes, found)),
        "defects": lambda: _on_each(outcomes, lambda found: _defects(contract, changes, found)),
        "benign": lambda: _on_each(outcomes, lambda found: _benign(changes, found)),
    }


def _on_each(outcomes: Sequence[Outcome], draw: Callable[[Sequence[Outcome]], str]) -> str:
    """Draw once for each host; without any record draw once, with everything *not run*."""
    hosts = {one.host.identity: one.host for one in outcomes}
    called = names(hosts.values())
    if not hosts:
        return draw(())
    parts = []
    for identity, host in sorted(hosts.items()):
        here = [one for one in outcomes if one.host.identity == identity]
        parts.append(f"**{literal(called[identity])}**: {literal(fingerprint(host))}.\n\n{draw(here)}")
    return "\n\n".join(parts)


def newest(change: Change, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the newest outcome of each repetition of a change, in its present version."""
    return [*{one.turn: one for one in outcomes if (one.change, one.digest) == (change.id, change.digest)}.values()]


def result(change: Change, outcomes: Iterable[Outcome]) -> Result:
    """Return the result of a defect; *not run* without a record."""
    found = newest(change, outcomes)
    return found[0].result if found else Result.NOT_RUN


def _scores(contract: Contract, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> str:
    defects = [one for one in changes if not one.benign]
    by = {one.id: result(one, outcomes) for one in defects}
    titles = {one.id: one.title for one in contract.features if not one.pending} | {HARNESS: ITSELF}

    def row(title: str, mine: Sequence[Change]) -> list[str]:
        counts = [sum(by[one.id] is column for one in mine) for column in COLUMNS]
        return [title, str(len(mine)), *map(str, counts)]

    rows = [row(title, [one for one in defects if owner in one.features]) for owner, title in titles.items()]
    layers = dict.fromkeys(one.layer for one in defects)
    rows += [row(f"*Seeded into the {layer}*", [one for one in defects if one.layer == layer]) for layer in layers]
    rows.append(row("**All**", defects))
    turns = [one for change in changes if change.benign for one in newest(change, outcomes)]
    asked = [one for one in turns if one.result is not Result.NOT_RUN]
    alarms = sum(one.result is Result.ALARM for one in asked)
    minutes = sum(one.seconds for change in changes for one in newest(change, outcomes)) / 60
    return (
        f"{table(['Noticed by', 'Seeded', *(_title(one) for one in COLUMNS)], rows)}\n\n"
        f"False alarms: {alarms} in {len(asked)} runs. One after another, all changes take {minutes:.0f} minutes."
    )


def _defects(contract: Contract, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> str:
    titles = {feature.id: feature.title for feature in contract.features} | {HARNESS: ITSELF}
    rows = []
    for one in changes:
        if one.benign:
            continue
        came = result(one, outcomes)
        why = next((found.why for found in newest(one, outcomes)), "")
        word = came if came in (Result.CAUGHT, Result.NOT_RUN) else f"**{came}**"
        rows.append([one.title, one.layer, ", ".join(titles[each] for each in one.features), _with(word, why)])
    return _table(["Defect", "Where", "Noticed by", "Result"], rows)


def _benign(changes: Sequence[Change], outcomes: Sequence[Outcome]) -> str:
    rows = []
    for one in changes:
        if not one.benign:
            continue
        found = newest(one, outcomes)
        alarms = [each for each in found if each.result is Result.ALARM]
        if alarms:
            word = _with(f"**{len(alarms)} false alarms**", alarms[0].why)
        else:
            word = next((_with(each.result, each.why) for each in found), str(Result.NOT_RUN))
        rows.append([one.title, f"{len(found)} of {one.repeat}", word])
    return _table(["Change", "Runs", "Result"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, rows) if rows else "There are no such changes."


def _with(word: str, why: str) -> str:
    return f"{word}: {literal(why[:300])}" if why else str(word)


def _title(one: Result) -> str:
    return one[0].upper() + one[1:]
