"""The README's overview: a mode for each kind of host, its features at a glance, and the first command."""

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.model import commands, mode
from conformance.model.contract import Contract, Feature
from conformance.model.matrix import Cell, HostMatrix
from conformance.model.record import Record, names
from conformance.model.verdict import Verdict, gravest
from conformance.report.compatibility import ACCELS, anchor
from conformance.report.markdown import IMAGE, SYMBOLS, literal, table

ALL = "privileged"
"""The mode beside the recommended ones: it shows how much more `--privileged` gives."""

EXPECTED = " ¹"
UNSOLVED = (Verdict.FAILS, Verdict.KNOWN_FAILURE)
WIDTH = 86

LEGEND = (
    "✅ works · ❌ does not work in this mode, but in the one that is named"
    f" · {SYMBOLS[Verdict.NOT_RUN]} not run · n/a not testable on these hosts"
)


@dataclass(frozen=True)
class Kind:
    """One column: a kind of host in one mode.

    Attributes:
        title: the kind of host.
        mode: the mode's id.
        hosts: matrices of the hosts of this kind with a verdict in that mode.
    """

    title: str
    mode: str
    hosts: tuple[HostMatrix, ...]

    def verdict(self, feature: Feature) -> Verdict:
        """Return the gravest verdict of these hosts; only where none decided, that the hosts cannot test it."""
        cells = [host.cell(feature.id, self.mode) for host in self.hosts]
        decided = [_verdict(cell) for cell in cells if cell.verdict.decided]
        if decided:
            return gravest(decided)
        return Verdict.UNSUPPORTED if any(cell.verdict is Verdict.UNSUPPORTED for cell in cells) else Verdict.NOT_RUN


def numbers(contract: Contract, hosts: Sequence[HostMatrix], records: Sequence[Record]) -> str:
    """Summarise in one line how much has been tested, and when the last time was; records decide."""
    cells = [(feature.id, claims.id) for feature in contract.features for claims in contract.modes]
    tested = sum(any(host.cell(*cell).verdict.decided for host in hosts) for cell in cells)
    counts = [
        f"{len(contract.features)} features",
        f"{len(contract.modes)} modes",
        f"{tested} of {len(cells)} cells tested on at least one of {len(hosts)} hosts",
    ]
    if records:
        counts.append(f"last recorded {max(one.time for one in records):%Y-%m-%d}")
    return " · ".join(counts)


def which_mode(contract: Contract, hosts: Sequence[HostMatrix]) -> str:
    """List the recommended mode for each kind of host, and the hosts with records of it."""
    called = names(host.host for host in hosts)
    rows = []
    for kind in _kinds(contract, hosts):
        where = [_where(host, called[host.host.identity]) for host in kind.hosts]
        rows.append([kind.title, f"`{kind.mode}`", "<br>".join(where) or "no host yet"])
    return table(["Your host has", "Use mode", "Tested on"], rows)


def at_a_glance(contract: Contract, hosts: Sequence[HostMatrix]) -> str:
    """Write a row for each feature: the recommended mode on each kind of host, and ``privileged``."""
    columns = [
        *_kinds(contract, hosts),
        Kind("any host", ALL, tuple(host for host in hosts if _decided(contract, host, ALL))),
    ]
    rows = [
        [feature.title, *(_cell(contract, column, feature, hosts) for column in columns)]
        for feature in contract.features
    ]
    expected = any(cell.endswith(EXPECTED) for row in rows for cell in row)
    lines = [
        table(["Feature", *(f"{column.title.partition(' (')[0]}: `{column.mode}`" for column in columns)], rows),
        "",
        LEGEND,
    ]
    if expected:
        lines[-1] += "  \n¹ expected from the claims; no host has tested it yet"
    return "\n".join(lines)


def quick_start(contract: Contract) -> str:
    """Write the ``docker run`` command of the mode that runs on hosts of every kind but SELinux."""
    chosen = mode.from_contract(contract, contract.recommendations[-1].mode)
    return f"```sh\n{commands.paragraph(commands.docker_run(chosen, IMAGE), WIDTH)}\n```"


def _kinds(contract: Contract, hosts: Sequence[HostMatrix]) -> list[Kind]:
    return [
        Kind(
            one.host,
            one.mode,
            tuple(
                host
                for host in hosts
                if contract.recommendation(host.host.security) == one and _decided(contract, host, one.mode)
            ),
        )
        for one in contract.recommendations
    ]


def _decided(contract: Contract, host: HostMatrix, mode_id: str) -> bool:
    return any(host.cell(feature.id, mode_id).verdict.decided for feature in contract.features)


def _where(host: HostMatrix, name: str) -> str:
    facts = host.host.fingerprint
    accels = frozenset(accel for cell in host.cells.values() for accel in cell.accels)
    guests = f", guests {ACCELS[accels]}" if accels in ACCELS else ""
    return (
        f"[{literal(name)}](docs/compatibility.md#{anchor(name)}): {literal(str(facts.get('os')))},"
        f" {literal(str(facts.get('engine')))}, cgroup v{facts.get('cgroup_version')}{guests}"
    )


def _cell(contract: Contract, column: Kind, feature: Feature, hosts: Sequence[HostMatrix]) -> str:
    verdict = column.verdict(feature)
    if verdict not in UNSOLVED:
        return SYMBOLS[verdict]
    better = _solution(contract, column, feature, hosts)
    return f"❌ {better}".rstrip()


def _solution(contract: Contract, column: Kind, feature: Feature, hosts: Sequence[HostMatrix]) -> str:
    """Return the first other mode that works: on hosts of this kind, on any host, or by the contract."""
    others = [claims for claims in contract.modes if claims.id != column.mode]
    for places in (column.hosts, hosts):
        for claims in others:
            if any(_verdict(host.cell(feature.id, claims.id)) is Verdict.WORKS for host in places):
                return f"`{claims.id}`"
    failing = {mode for one in contract.known_failures if one.feature == feature.id for mode in one.modes}
    expected = next((claims.id for claims in others if claims.id not in failing), "")
    return f"`{expected}`{EXPECTED}" if expected else ""


def _verdict(cell: Cell) -> Verdict:
    """Return a cell's verdict; where runs disagreed, that it fails."""
    return Verdict.FAILS if cell.flaky else cell.verdict
