"""Which tests run in which modes, in which order, and which of them are expected to fail."""

import re
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import (
    HarnessError,
)
from conformance.model.mode import Mode
from conformance.model.verdict import KnownFailure
from conformance.plugin.options import contract_of
from conformance.plugin.state import (
    ASSIGNMENT,
    EXIT_CANNOT_RUN,
    GIVEN,
    GIVEN_RUN,
    INSTALL,
    MODES,
    PROGRESS,
    QUESTION,
    RUN,
    SELECTED,
)
from conformance.run.check import Check, digest
from conformance.run.context import prepare
from conformance.util import logs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each question in each chosen mode; each mode's container is started once."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "mode" not in metafunc.fixturenames or not marks & _features(metafunc.config):
        return
    chosen = [one for one in metafunc.config.stash[MODES] if _is_asked(metafunc.config, marks, one)]
    metafunc.parametrize("mode", chosen, ids=[one.id for one in chosen], indirect=True, scope="session")


def _features(config: pytest.Config) -> set[str]:
    """Return the markers of the contract's features; a test with none of them is not this project's."""
    if MODES not in config.stash:
        return set()
    claims = contract_of(config.getoption("contract"))
    return {feature.marker for feature in (*claims.features, *claims.unpromised)}


def _is_asked(config: pytest.Config, marks: Collection[str], asked: Mode) -> bool:
    """Say whether a test with these marks is asked in a mode."""
    if "user_iso" in marks and config.stash[GIVEN] is None:
        return False
    if "macvtap_link" in marks and not config.getoption("macvtap_link"):
        return False
    if "profiled" in marks and not asked.profile:
        return False
    claims = contract_of(config.getoption("contract"))
    if "extras" in marks and not claims.image.extras:
        return False
    if "foreseen" in marks and not claims.foreseen(asked.id):
        return False
    return "host_network" not in marks or asked.host_network


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Note what each test asks, and what the contract expects of it; then that everybody's selection succeeded."""
    if MODES not in config.stash:
        yield
        return
    _note_questions(config, items)
    yield
    # After pytest's own order, which takes a mode by its place in each test's list, and these lists differ.
    chosen = config.stash[MODES]
    items.sort(key=lambda item: (_index(chosen, _parameters(item).get("mode")), _ends(item)))
    config.stash[SELECTED] = True  # not where a marker in -m does not exist


def _note_questions(config: pytest.Config, items: list[pytest.Item]) -> None:
    claims = contract_of(config.getoption("contract"))
    by_marker = {feature.marker: feature for feature in claims.features}
    unpromised = {feature.marker for feature in claims.unpromised}
    # A question that is asked in none of the chosen modes has no mode.
    pointless = [
        item
        for item in items
        if (marks := {mark.name for mark in item.iter_markers()} & _features(config))
        and (
            not isinstance(_parameters(item).get("mode"), Mode | None)
            or unpromised & marks
            or not _is_wanted(config, item)
        )
    ]
    if pointless:
        config.hook.pytest_deselected(items=pointless)
        items[:] = [item for item in items if item not in pointless]
    collected: dict[tuple[Path, str, str], list[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and isinstance(asked := _parameters(item).get("mode"), Mode):
            collected.setdefault((item.path, asked.id, item.originalname), []).append(_check(item, asked))
    for item in items:
        feature = next((by_marker[mark.name] for mark in item.iter_markers() if mark.name in by_marker), None)
        asked = _parameters(item).get("mode")
        if feature is None or not isinstance(asked, Mode) or not isinstance(item, pytest.Function):
            continue
        question = Check(
            feature=feature,
            mode=asked.id,
            check=_check(item, asked),
            checks=tuple(
                sorted(
                    check
                    for name in _functions(item, asked)
                    for check in collected.get((item.path, asked.id, name), [name])
                )
            ),
            asked=digest(config.getoption("contract"), item.path),
        )
        known = claims.known_failure(feature.id, asked.id, question.check)
        if known:
            question.expected = claims.cause(known.cause)
            item.add_marker(pytest.mark.xfail(strict=True, raises=KnownFailure, reason=question.expected.explanation))
        item.stash[QUESTION] = question


def _is_wanted(config: pytest.Config, item: pytest.Item) -> bool:
    """Say whether a test is asked, which takes so long that it has to be asked for; any other test is."""
    marks = {mark.name for mark in item.iter_markers()}
    return INSTALL not in marks or bool(marks & set(re.findall(r"\w+", config.getoption("markexpr"))))


def _index(chosen: list[Mode], asked: object) -> int:
    """Return a mode's place among the chosen ones; what is asked of none comes first."""
    return chosen.index(asked) if isinstance(asked, Mode) else -1


def _ends(item: pytest.Item) -> int:
    """Rank a test by what it ends: the later it is asked, the more others were served by the same boot."""
    marker = item.get_closest_marker("ends")
    return ("nothing", "guest", "container").index(marker.args[0]) if marker else 0


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}


def _check(item: pytest.Function, asked: Mode) -> str:
    """Return a test's name with its parameters, but for the mode."""
    parameters = item.callspec.id.removeprefix(asked.id).removesuffix(asked.id).strip("-")
    return f"{item.originalname}[{parameters}]" if parameters else item.originalname


def _functions(item: pytest.Function, asked: Mode) -> tuple[str, ...]:
    """Return the names of this test and all beside it that this mode is asked, collected now or not."""
    module = item.getparent(pytest.Module)
    functions = {name: one for name, one in vars(module.obj if module else None).items() if name.startswith("test_")}
    return tuple(
        sorted(
            name
            for name, one in functions.items()
            if _is_asked(item.config, {mark.name for mark in getattr(one, "pytestmark", [])}, asked)
        )
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get everything ready before the first question, so that what is missing is said at once."""
    config = session.config
    option = config.option
    only_lists = option.collectonly or option.showfixtures or option.show_fixtures_per_test or option.setupplan
    runs = SELECTED in config.stash and not only_lists and not session.testsfailed
    if not runs or not any(QUESTION in item.stash for item in session.items):
        return
    progress = config.stash[PROGRESS]
    if GIVEN_RUN in config.stash:
        config.stash[RUN] = config.stash[GIVEN_RUN]
        return
    part = config.stash.get(ASSIGNMENT, None)
    config.add_cleanup(logs.begin())
    if part is None and (config.getoption("verbose") > 0 or logs.shown()):
        config.add_cleanup(logs.show(progress))
    try:
        config.stash[RUN] = prepare(
            contract_of(config.getoption("contract")),
            progress,
            tag=config.getoption("image"),
            choice=config.getoption("accel"),
            results=config.getoption("results"),
            host_name=config.getoption("host_name"),
            host_facts=dict(config.getoption("host_facts")),
            ready_seconds=config.getoption("ready_seconds"),
            pci_devices=config.getoption("pci_devices"),
            recorded_as=part.run if part else None,
        )
    except HarnessError as error:
        pytest.exit(f"error: {error}{logs.footer()}", returncode=EXIT_CANNOT_RUN)
    finally:
        progress.clear()
