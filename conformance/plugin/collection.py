"""Which tests run in which modes, in which order, and which of them are expected to fail."""

import re
from collections.abc import Collection, Generator
from os import environ
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import BadOption, HarnessError
from conformance.model.mode import Mode
from conformance.model.verdict import KnownFailure
from conformance.plugin import limits
from conformance.plugin.live import LiveProgress
from conformance.plugin.options import Options
from conformance.plugin.state import CHECK, ESSENTIAL, EXIT_CANNOT_RUN, INSTALL, OPTIONS, SESSION
from conformance.run.check import Check, digest
from conformance.run.preparation import prepare
from conformance.util import logs

TEST_SECONDS = 600
"""Deadline of a test; it is the repository's ini key ``timeout``, too, which a session elsewhere does not read."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each check in each chosen mode; each mode's container is started once."""
    options = metafunc.config.stash[OPTIONS]
    if "mode" not in metafunc.fixturenames or not _is_check(metafunc.definition):
        return
    marks = _marks(metafunc.definition)
    chosen = [mode for mode in options.modes if _runs_in(options, marks, mode)]
    metafunc.parametrize("mode", chosen, ids=[mode.id for mode in chosen], indirect=True, scope="session")


def _is_check(item: pytest.Item) -> bool:
    """Return whether a test is in a folder of suites, and carries a feature's marker."""
    config = item.config
    ours = any(item.path.is_relative_to(folder) for folder in config.stash[SESSION].folders)
    return ours and bool(_marks(item) & {feature.marker for feature in config.stash[OPTIONS].features})


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


def _runs_in(options: Options, marks: Collection[str], mode: Mode) -> bool:
    """Return whether a test with these marks runs in a mode."""
    if "user_iso" in marks and options.user_iso is None:
        return False
    if "macvtap_link" in marks and not options.macvtap_link:
        return False
    if "own_network" in marks and mode.host_network:
        return False
    if "recommended" in marks and mode.id not in {one.mode for one in options.contract.recommendations}:
        return False
    if "profiled" in marks and not mode.profile:
        return False
    if "extras" in marks and not options.contract.image.extras:
        return False
    if "foreseen" in marks and not options.contract.foreseen(mode.id):
        return False
    return "host_network" not in marks or mode.host_network


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Attach a check to each test, with the contract's expectation; order the tests after all other selection."""
    _deselect(config, items)
    _attach_checks(config, items)
    try:
        yield
    except pytest.UsageError as error:
        raise _with_features(config, error) from error
    # After pytest's own order, which takes a mode by its place in each test's list, and these lists differ.
    chosen = config.stash[OPTIONS].modes
    items.sort(key=lambda item: (_index(chosen, _mode(item)), _ends(item)))
    config.stash[SESSION].selected = True  # pytest raises before this line for an unknown marker in -m


def _with_features(config: pytest.Config, error: pytest.UsageError) -> pytest.UsageError:
    """Return pytest's error; one about ``-m``, such as an unknown marker, with the features to choose from."""
    message = str(error).partition(" Use 'pytest --markers'")[0]
    if "'-m'" not in message:
        return error
    features = ", ".join(feature.marker for feature in config.stash[OPTIONS].contract.features)
    return pytest.UsageError(
        f"{message}\n  what to do: choose among the features: {features}; pytest --markers lists further markers"
    )


def _deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests outside of the profile, in no chosen mode, of features without a promise, or without a request."""
    excluded = _outside(config.stash[OPTIONS], [item for item in items if _is_check(item)])
    unpromised = {feature.marker for feature in config.stash[OPTIONS].contract.unpromised}
    deselected = [
        item
        for item in items
        if _is_check(item)
        and (
            # Without a mode, pytest puts a placeholder in its place.
            not isinstance(_parameters(item).get("mode"), Mode | None)
            or unpromised & _marks(item)
            or not _is_requested(config, item)
            or item in excluded
        )
    ]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]


def _outside(options: Options, items: Collection[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that the profile leaves out: of other features, and those that are not essential."""
    profile = options.profile
    tested = {feature.marker for feature in options.features if profile.tests(feature.id)}
    outside = {item for item in items if not _marks(item) & tested}
    if profile.partial:
        essential = {item for item in items if ESSENTIAL in _marks(item)}
        whole = tested - {marker for item in essential for marker in _marks(item)}
        outside |= {item for item in items if item not in essential and not _marks(item) & whole}
    return outside


def _attach_checks(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = config.stash[OPTIONS]
    by_marker = {feature.marker: feature for feature in options.contract.features}
    modes = {
        item: mode
        for item in items
        if isinstance(item, pytest.Function) and _is_check(item) and (mode := _mode(item)) is not None
    }
    collected: dict[tuple[Path, str, str], list[str]] = {}
    for item, mode in modes.items():
        collected.setdefault((item.path, mode.id, item.originalname), []).append(_name(item, mode))
    for item, mode in modes.items():
        feature = next((by_marker[mark.name] for mark in item.iter_markers() if mark.name in by_marker), None)
        if feature is None:
            continue
        siblings = (collected.get((item.path, mode.id, name), [name]) for name in _functions(options, item, mode))
        check = Check(
            feature=feature,
            mode=mode.id,
            check=_name(item, mode),
            checks=tuple(sorted(name for names in siblings for name in names)),
            asked=digest(options.contract_file, item.path),
        )
        known = options.contract.known_failure(feature.id, mode.id, check.check)
        if known:
            check.expected = options.contract.cause(known.cause)
            item.add_marker(pytest.mark.xfail(strict=True, raises=KnownFailure, reason=check.expected.explanation))
        item.stash[CHECK] = check
        if item.get_closest_marker("timeout") is None and not _has_deadline(config):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


def _has_deadline(config: pytest.Config) -> bool:
    """Return whether the user has set a deadline for tests, or disabled deadlines."""
    disabled = not config.pluginmanager.hasplugin("timeout")
    return disabled or bool(config.getoption("timeout") or config.getini("timeout") or environ.get("PYTEST_TIMEOUT"))


def _is_requested(config: pytest.Config, item: pytest.Item) -> bool:
    """Return whether a test runs without a request, or ``-m`` names one of its markers."""
    marks = _marks(item)
    return INSTALL not in marks or bool(marks & set(re.findall(r"\w+", config.getoption("markexpr"))))


def _index(chosen: Collection[Mode], mode: Mode | None) -> int:
    """Return a mode's place among the chosen ones; tests without a mode come first."""
    return -1 if mode is None else list(chosen).index(mode)


def _ends(item: pytest.Item) -> int:
    """Return a rank that puts a test after those that still need the guest or container that it ends."""
    marker = item.get_closest_marker("ends")
    return ("nothing", "guest", "container").index(marker.args[0]) if marker and _is_check(item) else 0


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}


def _mode(item: pytest.Item) -> Mode | None:
    mode = _parameters(item).get("mode")
    return mode if isinstance(mode, Mode) else None


def _name(item: pytest.Function, mode: Mode) -> str:
    """Return a test's name with its parameters, except the mode."""
    parameters = item.callspec.id.removeprefix(mode.id).removesuffix(mode.id).strip("-")
    return f"{item.originalname}[{parameters}]" if parameters else item.originalname


def _functions(options: Options, item: pytest.Function, mode: Mode) -> tuple[str, ...]:
    """Return the names of all tests of a test's module that run in a mode, whether they are collected or not."""
    module = item.getparent(pytest.Module)
    names = vars(module.obj if module else None)
    functions = {name: value for name, value in names.items() if name.startswith("test_")}
    return tuple(
        sorted(
            name
            for name, function in functions.items()
            if _runs_in(options, {mark.name for mark in getattr(function, "pytestmark", [])}, mode)
        )
    )


@pytest.hookimpl(tryfirst=True)  # before pytest counts the tests
def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare the run before the first test, so that a missing part is reported at once."""
    config = session.config
    state, options = config.stash[SESSION], config.stash[OPTIONS]
    option = config.option
    only_lists = option.collectonly or option.showfixtures or option.show_fixtures_per_test or option.setupplan
    runs = state.selected and not only_lists and not session.testsfailed
    if not runs or not any(CHECK in item.stash for item in session.items):
        return
    if state.shared_run:
        state.run = state.shared_run
        return
    config.add_cleanup(logs.begin())
    if state.worker is None and (config.getoption("verbose") > 0 or logs.shown()):
        config.add_cleanup(logs.show(state.progress))
    try:
        state.run = prepare(
            options.contract,
            state.progress,
            tag=options.image,
            choice=options.accel,
            results=options.results,
            host_name=options.host_name,
            host_facts=options.host_facts,
            ready_seconds=options.ready_seconds,
            pci_devices=options.pci_devices,
            minimise_boots=options.profile.partial,
            recorded_as=state.worker.run if state.worker else None,
        )
        limits.leave_out(session)
    except BadOption as error:
        raise pytest.UsageError(str(error)) from error
    except HarnessError as error:
        pytest.exit(f"error: {error}{logs.footer()}", returncode=EXIT_CANNOT_RUN)
    finally:
        state.progress.clear()
    state.live = LiveProgress(session)
    config.pluginmanager.register(state.live)
