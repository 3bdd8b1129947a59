"""From an outcome to a verdict, a record, and the table at the end."""

import contextlib
import sys
import time
from collections.abc import Generator

import pytest

from conformance.engine import labels
from conformance.errors import (
    EngineError,
    EngineGone,
    HarnessError,
    Unsupported,
)
from conformance.model import requirements
from conformance.model.profile import Profile
from conformance.model.verdict import Verdict, at_fault, blames_image, recognised
from conformance.plugin import limits
from conformance.plugin.state import (
    CHECK,
    EXIT_CANNOT_RUN,
    EXIT_NOTHING_DECIDED,
    OPTIONS,
    SESSION,
    SessionState,
)
from conformance.report import smoke, terminal
from conformance.report.terminal import Screen
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util import signals


def _translated(item: pytest.Item) -> Generator[None, None, None]:
    """Run a phase of a test; raise a recognised failure as a known one, and skip on a host without support."""
    check = item.stash.get(CHECK, None)
    try:
        yield
    except Unsupported as error:
        if check is None:
            raise
        check.unsupported = str(error)
        pytest.skip(str(error))
    except Exception as error:
        if check is not None and blames_image(error):
            item.config.stash[SESSION].prepared_run.require()
            _note_denials(item, check)
        known = recognised(check.expected if check else None, error)
        if known:
            raise known from error
        raise


def _note_denials(item: pytest.Item, check: Check) -> None:
    """Add a security module's denials to a failed test's evidence; a daemon reports "Permission denied" only."""
    state = item.config.stash[SESSION]
    if state.container is not None:
        with contextlib.suppress(EngineError):  # the verdict is valid without them
            denials = state.prepared_run.refusals(state.container)
            check.evidence |= {"refused": denials} if denials else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Translate the exceptions of fixtures."""
    check = item.stash.get(CHECK, None)
    if check is not None:
        check.started = time.monotonic()
    yield from _translated(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Translate the exceptions of the test."""
    yield from _translated(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge and record; pytest shows a failure of the image as failed, and one of the harness as error."""
    report = yield
    check = item.stash.get(CHECK, None)
    if check is None or (report.when != "call" and report.passed):
        return report
    # The log of the run is a file; pytest would repeat its lines below each failure.
    report.sections = [section for section in report.sections if not section[0].startswith("Captured log")]
    state = item.config.stash[SESSION]
    run = state.prepared_run
    error = at_fault(call.excinfo.value if call.excinfo else None, emulated=run.emulated)
    verdict = check.judge(error, skipped=report.skipped, after=report.when == "teardown")
    if verdict is Verdict.FAILS:
        report.when = "call"
    elif verdict is Verdict.ERROR and report.when == "call":
        report.when = "setup"
    if isinstance(error, HarnessError):
        report.longrepr = f"error: {error}"  # the message has the remedy; a traceback through the harness helps nobody
    if isinstance(error, EngineGone):
        # Each further test would wait for the engine and be an error, in place of the results of earlier runs.
        item.session.shouldfail = "the engine no longer answers"
    item.user_properties.append(("verdict", str(verdict)))  # JUnit reads them after the teardown
    state.progress.clear()
    try:
        # The first record may wait for the test of the host's KVM; an interrupt meanwhile loses no verdict.
        with signals.deferred():
            limits.record(state)
            judged = check.record(run, verdict, error)
            run.recorder.append(judged)
    except HarnessError as unwritten:
        pytest.exit(f"error: {unwritten}", returncode=EXIT_CANNOT_RUN)
    if state.live:
        state.live.judged(judged)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Clean up, however the session ends; a session that decided no check ends with a non-zero status."""
    state = session.config.stash[SESSION]
    run = state.run
    if run is None or state.shared_run:
        yield
        return
    _record_untestable(state)
    if exitstatus == pytest.ExitCode.OK and not _decided(run):
        session.exitstatus = EXIT_NOTHING_DECIDED
    if session.exitstatus in (pytest.ExitCode.OK, EXIT_NOTHING_DECIDED) and _missing(session.config, run):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    try:
        yield  # pytest tears down the fixtures that are still set up, as after ctrl-C
    finally:
        try:
            run.close()
        except (HarnessError, KeyboardInterrupt) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else error
            print(  # noqa: T201
                f"\nerror: cannot clean up: {why}\n"
                f"  the next run removes the leftovers; their label is {labels.RUN}={run.id}",
                file=sys.stderr,
            )
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _record_untestable(state: SessionState) -> None:
    try:
        limits.record(state)
    except HarnessError as error:
        print(f"\nerror: {error}", file=sys.stderr)  # noqa: T201


def _decided(run: Run) -> bool:
    return any(one.verdict.decided for one in run.recorder.records)


def _missing(config: pytest.Config, run: Run) -> list[str]:
    """Return a line for each required name that this session did not decide."""
    options = config.stash[OPTIONS]
    return requirements.missing(
        requirements.parse(options.contract, options.required),
        run.contract,
        run.recorder.records,
        asked=[mode.id for mode in options.modes],
        fingerprint=run.fingerprint,
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Show the table of this run, and its missing requirements; of a worker, the leading process does."""
    state = config.stash[SESSION]
    if state.run is None or state.worker:
        return
    state.progress.headline("")
    state.progress.clear()
    profile = config.stash[OPTIONS].profile
    reached = state.live.reached if state.live else None
    if state.run.recorder.records:
        terminalreporter.section("compatibility")
        screen = Screen(terminalreporter._tw.fullwidth, terminalreporter.hasmarkup)
        text = _part(profile, state.run, screen) if profile.partial else _whole(state, state.run, screen)
        terminalreporter.write_line(text)
    if reached and reached[0] < reached[1] and (profile.partial or not state.run.recorder.records):
        terminalreporter.write_line(_totals(state, state.run))
    for line in _missing(config, state.run) if exitstatus != pytest.ExitCode.INTERRUPTED else ():
        terminalreporter.write_line(f"required, but missing: {line}", red=True)


def _whole(state: SessionState, run: Run, screen: Screen) -> str:
    return terminal.summary(
        run.contract,
        run.recorder.records,
        run.recorder.path.parent,
        screen=screen,
        seconds=state.live.seconds if state.live else None,
        reached=state.live.reached if state.live else None,
        selected=state.live.selected if state.live else (),
        announced=state.announced,
    )


def _totals(state: SessionState, run: Run) -> str:
    seconds, reached = (state.live.seconds, state.live.reached) if state.live else (None, None)
    return terminal.totals(run.recorder.records, seconds=seconds, reached=reached)


def _part(profile: Profile, run: Run, screen: Screen) -> str:
    """Return a table for each mode, with counts of checks: a part of them makes no cell of the matrix."""
    modes = dict.fromkeys(one.mode for one in run.recorder.records)
    lines = []
    for mode in modes:
        rows = smoke.rows(run.contract, [one for one in run.recorder.records if one.mode == mode])
        lines += [f"profile {profile.id}, mode {mode}: {smoke.summary(rows)}", ""]
        lines += [smoke.draw(rows, width=screen.width, color=screen.color), ""]
    return "\n".join([*lines, f"records: {run.recorder.path}"])
