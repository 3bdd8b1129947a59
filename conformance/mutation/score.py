"""The score in docs/trust.md: a pure function of the mutants and their outcomes."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from conformance.mutation.concern import Concerns
from conformance.mutation.mutant import ImageFiles, Mutant
from conformance.mutation.observation import Observation
from conformance.mutation.outcome import Outcome, Result
from conformance.report.markdown import literal, table

SENTENCE_CHARACTERS = 160

SAMPLE = 5
"""The fewest tested mutants that stand for others."""


class State(StrEnum):
    """The state of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    UNREACHED = "not reached"
    """It survives without a run: no check reaches the changed line."""
    EQUIVALENT = "equivalent"
    INVALID = "invalid"
    NOT_RUN = "not run"


OF_RESULT = {Result.KILLED: State.KILLED, Result.SURVIVED: State.SURVIVED, Result.INVALID: State.INVALID}

COLUMNS = (State.KILLED, State.SURVIVED, State.UNREACHED, State.EQUIVALENT, State.NOT_RUN)


def makers(
    mutants: Sequence[Mutant], files: ImageFiles, concerns: Concerns, observed: Observation, outcomes: Sequence[Outcome]
) -> dict[str, Callable[[], str]]:
    """Return the functions that make the generated blocks, by their names."""
    newest = {(one.mutant, one.digest): one for one in outcomes}
    present = [newest[key] for one in mutants if (key := (one.id, one.digest)) in newest]
    known = {one.id: state(one, files, concerns, observed, present) for one in mutants}
    return {
        "mutation": lambda: scores(mutants, known, present),
        "survivors": lambda: survivors(mutants, known),
    }


def unreached(mutant: Mutant, files: ImageFiles, concerns: Concerns, observed: Observation) -> bool:
    """Return whether no check of the mutant's mode reaches the changed lines."""
    if mutant.lines is None:
        return False
    return observed.missed(concerns.of_mutant(mutant).mode, mutant.file, files[mutant.file], mutant.lines)


def state(
    mutant: Mutant, files: ImageFiles, concerns: Concerns, observed: Observation, outcomes: Iterable[Outcome]
) -> State:
    """Return the state of a mutant by its newest outcome."""
    if concerns.reason(mutant):
        return State.EQUIVALENT
    found = [one for one in outcomes if (one.mutant, one.digest) == (mutant.id, mutant.digest)]
    if found:
        return OF_RESULT[found[-1].result]
    return State.UNREACHED if unreached(mutant, files, concerns, observed) else State.NOT_RUN


def share(strata: Iterable[Sequence[State]]) -> str:
    """Return the share of the killed mutants among those that are neither equivalent nor invalid.

    Of each stratum, the tested mutants stand for those that were not run; with too few of them, a stratum does not
    count.

    Args:
        strata: groups of mutants from which samples were tested, by their states.
    """
    killed = whole = 0.0
    for states in strata:
        tested = states.count(State.KILLED) + states.count(State.SURVIVED)
        testable = tested + states.count(State.NOT_RUN)
        if tested < min(testable, SAMPLE):
            continue
        killed += testable * states.count(State.KILLED) / tested if tested else 0
        whole += testable + states.count(State.UNREACHED)
    return f"{100 * killed / whole:.0f} %" if whole else "-"


def scores(mutants: Sequence[Mutant], known: Mapping[str, State], outcomes: Sequence[Outcome]) -> str:
    """Return the table of the counts by kind and by file, and a line about the measurement."""
    mutants = [one for one in mutants if known[one.id] is not State.INVALID]

    def row(title: str, mine: Sequence[Mutant]) -> list[str]:
        states = [known[one.id] for one in mine]
        strata = [[known[one.id] for one in mine if one.kind == kind] for kind in kinds]
        return [title, str(len(mine)), *(str(states.count(column)) for column in COLUMNS), share(strata)]

    kinds = dict.fromkeys(one.kind for one in mutants)
    files = dict.fromkeys(one.file for one in mutants)
    rows = [row(f"*Kind {kind}*", [one for one in mutants if one.kind == kind]) for kind in kinds]
    rows += [row(f"`{file}`", [one for one in mutants if one.file == file]) for file in files]
    rows.append(row("**All**", mutants))
    head = ["Mutants of", "Number", *(one[0].upper() + one[1:] for one in COLUMNS), "Score"]
    states = [known[one.id] for one in mutants]
    missing = states.count(State.NOT_RUN)
    sample = (
        f" It is an estimate: of each kind, the tested mutants stand for the {missing} of {len(mutants)} that were not"
        " run, where there are at least five."
        if missing
        else ""
    )
    minutes = sum(one.seconds for one in outcomes) / 60
    starts = sum(one.start for one in outcomes)
    return (
        f"{table(head, rows)}\n\n"
        f"Score: the share of the killed mutants among those that are not equivalent.{sample}"
        f" One after another, the tests took {minutes:.0f} minutes. The container did not start with {starts} mutants."
    )


def survivors(mutants: Sequence[Mutant], known: Mapping[str, State]) -> str:
    """Return the table of the surviving mutants, and one of the functions that no check reaches."""
    rows = [
        [f"`{one.id}`", literal(one.sentence[:SENTENCE_CHARACTERS])]
        for one in mutants
        if known[one.id] is State.SURVIVED
    ]
    places = Counter((one.file, one.place.partition(":")[0]) for one in mutants if known[one.id] is State.UNREACHED)
    functions = [[f"`{file}`", f"`{function}`", str(count)] for (file, function), count in places.items()]
    return "\n\n".join(
        [
            table(["Mutant", "Defect"], rows) if rows else "No tested mutant survives.",
            table(["Script", "Function with lines that no check reaches", "Mutants"], functions)
            if functions
            else "The checks reach every line.",
        ]
    )
