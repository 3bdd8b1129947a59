"""Markdown for generated blocks of documents: the contract's tables, and how machine output is escaped."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from conformance.errors import HarnessError
from conformance.model import mode
from conformance.model.contract import (
    Capability,
    CgroupNamespace,
    Contract,
    Device,
    DeviceRule,
    Exposure,
    Mount,
    SecurityOption,
    Ulimit,
    VfioGroup,
)
from conformance.model.record import Host, Identity, Image, Record, names
from conformance.model.verdict import FLAKY, MEANINGS, Verdict

IMAGE = "libvirt-conformance"
"""The image's name in rendered commands."""

BLOCK = re.compile(r"(?P<begin><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end of generated -->)", re.DOTALL)

SPECIAL = re.compile(r"[\\`*<>\[\]~&$]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that mean something within a line of Markdown, as GitHub reads it; an underscore within a word does not.
The one that ends a table's cell is left to :func:`table`."""

BLOCK_START = re.compile(r"^(\d*)([#+=.)-])")
"""How a line begins that is a heading, a list or a rule."""

SYMBOLS = {
    Verdict.WORKS: "✅",
    Verdict.FAILS: "🛑",
    Verdict.KNOWN_FAILURE: "❌",
    Verdict.FIXED: "**fixed**",
    Verdict.UNSUPPORTED: "n/a",
    Verdict.NOT_RUN: "\N{EN DASH}",
    Verdict.ERROR: "**error**",
}
"""Verdicts as cells of a table show them; their meaning is in :func:`verdicts`."""


def fill(text: str, makers: Mapping[str, Callable[[], str]]) -> str:
    """Return a document with its generated blocks made anew by the makers of their names.

    Raises:
        HarnessError: a block has a name that nothing generates.
    """

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in makers:
            raise HarnessError(f"nothing generates a block {name!r}", f"use one of: {', '.join(makers)}")
        return f"{found['begin']}{makers[name]()}\n{found['end']}"

    return BLOCK.sub(block, text)


def literal(text: str) -> str:
    """Return one line of Markdown that shows a text as it is, in a paragraph, a list or a table.

    What a machine says (a host's facts, a daemon's error) may hold any character.
    """
    return BLOCK_START.sub(r"\1\\\2", SPECIAL.sub(r"\\\g<0>", _one_line(text)))


def numbered(notes: Iterable[str]) -> str:
    """Write notes as the numbered list that cells refer to."""
    return "\n".join(f"{number}. {literal(note)}" for number, note in enumerate(notes, start=1))


def fingerprint(host: Host) -> str:
    """Say in one line where something was measured."""
    facts = host.fingerprint
    security = facts.get("security") or "none"
    outer = f"; itself under {facts['outer']}" if "outer" in facts else ""
    return (
        f"{facts.get('os')}, kernel {facts.get('kernel')}, {facts.get('engine')}, "
        f"cgroup v{facts.get('cgroup_version')}, security: {security}, {facts.get('cpu')}{outer}; "
        f"KVM: {str(facts.get('kvm')).rstrip('.')}"
    )


def image(judged: Image) -> str:
    """Say in Markdown what was judged."""
    return f"`{judged.tag}` {literal(contents(judged))}".rstrip()


def contents(judged: Image) -> str:
    """Say what is in an image; nothing where that is not known."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(judged.versions.items()))
    return f"({versions}; base {judged.base})" if versions else ""


def verdicts() -> str:
    """List the verdicts: symbol, word, meaning."""
    rows = [[SYMBOLS[verdict], verdict.words, meaning] for verdict, meaning in MEANINGS.items()]
    return table(["Cell", "Verdict", "Meaning"], [*rows, ["**flaky**", "flaky", FLAKY]])


def features(contract: Contract) -> str:
    """Say what each row claims, and which marker asks it."""
    return table(
        ["Feature", "Claim", "Marker"],
        [[feature.title, feature.claim, f"`{feature.marker}`"] for feature in contract.features],
    )


def modes(contract: Contract) -> str:
    """List the modes and what each exposes."""
    return table(
        ["Mode", "What it is", "Exposures"],
        [
            [f"`{claims.id}`", claims.summary, ", ".join(f"`{shown(e)}`" for e in contract.exposures_of(claims))]
            for claims in contract.modes
        ],
    )


def commands(contract: Contract) -> str:
    """Give each mode's ``docker run`` line."""
    return "\n\n".join(
        f"`{claims.id}`:\n\n```sh\n{mode.from_contract(contract, claims.id).script(IMAGE)}\n```"
        for claims in contract.modes
    )


def parameters(contract: Contract) -> str:
    """List the build parameters."""
    return table(
        ["Parameter", "Default", "Description"],
        [[f"`{one.name}`", f"`{one.default}`", one.description] for one in contract.parameters],
    )


def volumes(contract: Contract) -> str:
    """List the volumes with their permission modes."""
    return table(
        ["Volume", "Permission mode", "Description"],
        [[f"`{one.path}`", one.permission, one.description] for one in contract.volumes],
    )


def exposures(contract: Contract) -> str:
    """List the exposures, and what the documentation says of the need for each."""
    return table(
        ["Exposure", "Permission mode", "Function", "Documented as"],
        [
            [
                f"`{shown(one)}`",
                one.permission if isinstance(one, Device | Mount) else "",
                one.function,
                one.documented,
            ]
            for one in contract.exposures
        ],
    )


def given_away(contract: Contract, records: Iterable[Record]) -> str:
    """Say what each mode lets a container do to its host, on each host where that was tried.

    Raises:
        HarnessError: what was tried on a host is no power of the contract, in none of its modes.
    """
    tried = sorted(
        (one for one in records if one.feature == "security" and "reached" in one.evidence),
        key=lambda one: one.run,
    )
    if not tried:
        return "Nothing has been recorded yet."
    reached = {(one.host.identity, one.mode, _power(one)): bool(one.evidence["reached"]) for one in tried}
    called = names(one.host for one in tried)
    return "\n\n".join(
        f"On {literal(called[host])}:\n\n{_given_away(contract, called[host], host, reached)}"
        for host in sorted(called)
    )


def _power(tried: Record) -> str:
    """Return the id of the power that a record is about; older records say it in the name of their check only."""
    return str(tried.evidence.get("power") or tried.check.partition("[")[2].rstrip("]"))


def _given_away(
    contract: Contract, name: str, host: Identity, reached: Mapping[tuple[Identity, str, str], bool]
) -> str:
    powers = [one.id for one in contract.powers]
    modes = [one.id for one in contract.modes if any((host, one.id, power) in reached for power in powers)]
    if not modes:
        seen = sorted({(power, mode) for there, mode, power in reached if there == host})
        raise HarnessError(
            f"the table of what a container can do to {name} would be empty: no power and mode of the contract is"
            f" among those that were tried there: {', '.join(f'{power!r} in {mode!r}' for power, mode in seen)}",
            "name powers and modes in contract.toml as conformance/checks/host_access.py and the records do",
        )
    words = {True: "**yes**", False: "no", None: "not run"}
    rows = [[power.title, *(words[reached.get((host, mode, power.id))] for mode in modes)] for power in contract.powers]
    return table(["", *(f"`{mode}`" for mode in modes)], rows)


def shown(exposure: Exposure) -> str:
    """Return an exposure as a word of a table."""
    match exposure:
        case Device():
            return exposure.path
        case DeviceRule():
            return f"--device-cgroup-rule={mode.RULE.format(major=exposure.driver)}"
        case VfioGroup():
            return "/dev/vfio/GROUP"
        case Ulimit():
            return f"--ulimit={exposure.name}=-1"
        case Mount() if exposure.source == exposure.target:
            return exposure.source
        case Mount():
            return f"{exposure.source} at {exposure.target}"
        case Capability():
            return exposure.id
        case SecurityOption():
            return exposure.option
        case CgroupNamespace():
            return f"--cgroupns={exposure.value}"
        case _:
            return "--network=host" if exposure.kind == "network" else "--privileged"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown.

    Raises:
        HarnessError: it has no rows: what it was to be made from has other names than whoever makes it thinks.
    """
    lines = [_row(row) for row in rows]
    if not lines:
        raise HarnessError(
            f"the generated table {' | '.join(head)!r} would be empty",
            "name things in contract.toml, selfcheck/ and the records alike, or let its maker say that it has nothing",
        )
    return "\n".join([_row(head), _row(["---"] * len(head)), *lines])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
