"""The table of what confines guests' QEMU in each mode, from the records of the feature ``hardening``."""

from collections.abc import Iterable, Mapping
from typing import Any

from conformance.model.contract import Contract
from conformance.model.record import Record, names
from conformance.report.markdown import literal, table

COLUMNS = (
    "Not root",
    "No capabilities",
    "System calls filtered",
    "Own mount namespace",
    "Own cgroup",
    "Graphics on loopback only",
)

LOOPBACK = {"127.0.0.1", "[::1]"}


def confinements(contract: Contract, records: Iterable[Record]) -> str:
    """Return a table of the modes for each host with such records; the newest record of a mode counts."""
    tried = sorted((one for one in records if one.feature == "hardening" and "qemu" in one.evidence), key=_run)
    if not tried:
        return "Nothing has been recorded yet."
    newest = {(one.host.identity, one.mode): one.evidence["qemu"] for one in tried}
    called = names(one.host for one in tried)
    tables = []
    for host in sorted(called):
        rows = [
            [f"`{mode.id}`", *("yes" if held else "**no**" for held in _held(newest[host, mode.id]))]
            for mode in contract.modes
            if (host, mode.id) in newest
        ]
        if rows:
            tables.append(f"On {literal(called[host])}:\n\n{table(['Mode', *COLUMNS], rows)}")
    return "\n\n".join(tables) or "Nothing has been recorded yet."


def _run(one: Record) -> str:
    return one.run


def _held(qemu: Mapping[str, Any]) -> tuple[bool, ...]:
    """Return whether each of :data:`COLUMNS` holds."""
    return (
        0 not in qemu["user"] and 0 not in qemu["groups"],
        qemu["capabilities"] == 0 and not qemu["new_privileges"],
        qemu["filters"] > 0,
        bool(qemu["mount_namespace"]),
        bool(qemu["control_group"]),
        set(qemu["listens"]) <= LOOPBACK,
    )
