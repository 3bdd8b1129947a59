"""The table of docs/performance.md: the newest results beside the targets."""

from collections.abc import Sequence

from conformance.bench.result import Measurement, Result
from conformance.bench.targets import MODE, TARGETS, Target
from conformance.model import record
from conformance.report import markdown


def render(text: str, results: Sequence[Result]) -> str:
    """Return a document with a new block ``performance``."""
    return markdown.fill(text, {"performance": lambda: performance(results)})


def performance(results: Sequence[Result]) -> str:
    """Return the last measurements on the host of the newest result, beside their targets.

    Args:
        results: the results, newest first; earlier ones of the same host fill in missing measurements.
    """
    if not results:
        return "Nothing has been measured yet."
    same = [one for one in results if one.host.identity == results[0].host.identity]
    called = record.names(one.host for one in results)
    sources = {target.id: next((one for one in same if one.of(target.id)), None) for target in TARGETS}
    result = max(same, key=lambda one: list(sources.values()).count(one))  # the source of most rows
    rows = [_row(target, sources[target.id], result) for target in TARGETS]
    versions = markdown.literal(
        ", ".join(f"{name} {version}" for name, version in sorted(result.image.versions.items()))
    )
    guests = "under KVM" if result.accel == "kvm" else "under emulation (TCG)"
    return "\n".join(
        [
            f"**{markdown.literal(called[result.host.identity])}**:"
            f" {markdown.literal(markdown.fingerprint(result.host))}.  ",
            f"Measured {result.time.date().isoformat()} with `{result.image.tag}` ({versions}), mode `{MODE}`, guests"
            f" {guests}, {result.host.fingerprint['cpus']} CPUs, load {result.load[0]:.1f} before.",
            "",
            markdown.table(["What", "Median (min..max, n)", "Target", "Met"], rows),
        ]
    )


def _row(target: Target, source: Result | None, most: Result) -> list[str]:
    wanted = _amount(target.most, target.unit) + (f", {target.count} in a row" if target.count > 1 else "")
    measured = source.of(target.id) if source else None
    if source is None or measured is None:
        return [target.what, "not measured", wanted, ""]
    low, high = (f"{value:.3g}" for value in (min(measured.values), max(measured.values)))
    elsewhere = "" if source == most else f"; {source.time.date().isoformat()}, load {source.load[0]:.1f} before"
    shown = f"{_amount(measured.median, target.unit)} ({low}..{high}, {len(measured.values)}{elsewhere})"
    return [target.what, shown, wanted, verdict(target, measured)]


def verdict(target: Target, measured: Measurement) -> str:
    """Return whether a target is met, or the difference and the reason."""
    if (count := len(measured.values)) < target.count:
        return f"missed: {count} of {target.count}"
    if measured.median <= target.most:
        return "yes"
    by = _amount(measured.median - target.most, target.unit)
    return f"missed by {by}" + (f": {target.why}" if target.why else "")


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" + ("" if unit == "ratio" else f" {unit}")
