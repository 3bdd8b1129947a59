"""Checks that cannot run on this host: found before the first test, listed once, and recorded without a run."""

import time
from collections.abc import Iterable, Mapping

import pytest

from conformance.errors import Unsupported
from conformance.plugin.state import CHECK, OPTIONS, SESSION, SessionState
from conformance.report import terminal
from conformance.run.context import Run
from conformance.util import signals


def leave_out(session: pytest.Session) -> None:
    """Deselect checks that cannot run on this host, and list their modes and features; they keep their records.

    Raises:
        HarnessError: the engine is gone, or a spare PCI device is unfit.
    """
    config = session.config
    state, options = config.stash[SESSION], config.stash[OPTIONS]
    run = state.prepared_run
    items = [item for item in session.items if CHECK in item.stash]
    used = {item.stash[CHECK].mode for item in items}
    by_mode = run.unsupported([mode for mode in options.modes if mode.id in used])
    by_fixture = _unsupported_fixtures(run, [item for item in items if item.stash[CHECK].mode not in by_mode])
    left_out = []
    for item in items:
        check = item.stash[CHECK]
        check.unsupported = by_mode.get(check.mode) or _reason(item, by_fixture)
        if check.unsupported:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        session.items[:] = [item for item in session.items if item not in left_out]
        state.untestable = [item.stash[CHECK] for item in left_out]
        _note_in_junit(config, by_mode)
    features = {check.feature.title: check.unsupported for check in state.untestable if check.mode not in by_mode}
    if state.worker is None and config.getoption("verbose") >= 0:  # else the summary lists them
        for line in terminal.not_run_here({**by_mode, **features}):
            state.progress.line(line)
        state.announced |= {*by_mode.values(), *features.values()}


def record(state: SessionState) -> None:
    """Record the checks that were left out, once."""
    run, untestable = state.prepared_run, state.untestable
    state.untestable = []
    with signals.deferred():
        for check in untestable:
            check.started = time.monotonic()
            error = Unsupported(check.unsupported)
            run.recorder.append(check.record(run, check.judge(error, skipped=True), error))


def _unsupported_fixtures(run: Run, items: Iterable[pytest.Item]) -> dict[str, str]:
    """Return why the host lacks something that fixtures of some tests need in every mode, by the fixtures' names."""
    used = {name for item in items if isinstance(item, pytest.Function) for name in item.fixturenames}
    reasons = {}
    if "pci_pool" in used:
        try:
            _ = run.pci_pool.devices
        except Unsupported as error:
            reasons["pci_pool"] = str(error)
    if "_kvm_guests" in used and run.accel != "tcg" and (kvm := run.kvm_probe.known()) and not kvm.usable:
        reasons["_kvm_guests"] = kvm.seen
    return reasons


def _reason(item: pytest.Item, by_fixture: Mapping[str, str]) -> str:
    names = item.fixturenames if isinstance(item, pytest.Function) else ()
    return next((by_fixture[name] for name in names if name in by_fixture), "")


def _note_in_junit(config: pytest.Config, by_mode: Mapping[str, str]) -> None:
    """Add a property to JUnit's suite for each mode that cannot run: it has no test case there."""
    for add in (getattr(plugin, "add_global_property", None) for plugin in config.pluginmanager.get_plugins()):
        if add:
            for mode, reason in by_mode.items():
                add(f"not run here: {mode}", reason)
