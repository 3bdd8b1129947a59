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
from conformance.model.verdict import Verdict, at_fault, blames_image, recognised
from conformance.plugin.state import (
    ASSIGNMENT,
    EXIT_CANNOT_RUN,
    EXIT_NOTHING_DECIDED,
    GIVEN_RUN,
    JUDGED,
    MODES,
    PROGRESS,
    QUESTION,
    REQUIRED,
    RUN,
)
from conformance.report import terminal
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.util import signals


def _translated(item: pytest.Item) -> Generator[None, None, None]:
    """Let a phase of a test run, and name what ends it: a known failure, a host that cannot be asked."""
    question = item.stash.get(QUESTION, None)
    try:
        yield
    except Unsupported as error:
        if question is None:
            raise
        question.unsupported = str(error)
        pytest.skip(str(error))
    except Exception as error:
        if question is not None and blames_image(error):
            item.config.stash[RUN].require()
            _note_refusals(item, question)
        known = recognised(question.expected if question else None, error)
        if known:
            raise known from error
        raise


def _note_refusals(item: pytest.Item, question: Check) -> None:
    """Keep what a security module refused during a test that failed: a daemon tells of "Permission denied" only."""
    container = item.config.stash.get(JUDGED, None)
    if container is not None:
        with contextlib.suppress(EngineError):  # the verdict stands without it
            refused = item.config.stash[RUN].refusals(container)
            question.evidence |= {"refused": refused} if refused else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Translate what fixtures raise."""
    question = item.stash.get(QUESTION, None)
    if question is not None:
        question.started = time.monotonic()
    yield from _translated(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Translate what the test raises."""
    yield from _translated(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge, record, and let pytest show a failure of the image as failed and one of the harness as error."""
    report = yield
    question = item.stash.get(QUESTION, None)
    if question is None or (report.when != "call" and report.passed):
        return report
    run = item.config.stash[RUN]
    error = at_fault(call.excinfo.value if call.excinfo else None, emulated=run.emulated)
    verdict = question.judge(error, skipped=report.skipped, after=report.when == "teardown")
    if verdict is Verdict.FAILS:
        report.when = "call"
    elif verdict is Verdict.ERROR and report.when == "call":
        report.when = "setup"
    if isinstance(error, HarnessError):
        report.longrepr = f"error: {error}"  # says what to do; where in the harness it was raised helps nobody
    if isinstance(error, EngineGone):
        # Each further question would wait for it and be an error, in place of what earlier runs found out.
        item.session.shouldfail = "the engine went away"
    item.user_properties.append(("verdict", str(verdict)))  # JUnit reads them after the teardown
    item.config.stash[PROGRESS].clear()
    try:
        # The first record may have to wait for what the host's KVM can do; a verdict that has fallen is kept.
        with signals.deferred():
            run.recorder.append(question.record(run, verdict, error))
    except HarnessError as unwritten:
        pytest.exit(f"error: {unwritten}", returncode=EXIT_CANNOT_RUN)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Leave nothing behind, however the session ends; one that decided nothing ends with a non-zero status."""
    run = session.config.stash.get(RUN, None)
    if run is None or GIVEN_RUN in session.config.stash:
        yield
        return
    if exitstatus == pytest.ExitCode.OK and not any(one.verdict.decided for one in run.recorder.records):
        session.exitstatus = EXIT_NOTHING_DECIDED
    if session.exitstatus in (pytest.ExitCode.OK, EXIT_NOTHING_DECIDED) and _missing(session.config, run):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    try:
        yield  # fixtures that are still set up, as after ctrl-C, are torn down in here
    finally:
        try:
            run.close()
        except (HarnessError, KeyboardInterrupt) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else error
            print(  # noqa: T201
                f"\nerror: cannot clean up: {why}\n"
                f"  the next run removes what is left; it carries the label {labels.RUN}={run.id}",
                file=sys.stderr,
            )
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _missing(config: pytest.Config, run: Run) -> list[str]:
    """Return what ``--require`` named and this session did not decide."""
    return requirements.missing(
        config.stash[REQUIRED],
        run.contract,
        run.recorder.records,
        asked=[one.id for one in config.stash[MODES]],
        fingerprint=run.fingerprint,
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Show the table of this run, and what of the required it lacks; of all parts of one, who leads them does."""
    run = config.stash.get(RUN, None)
    if run is None or ASSIGNMENT in config.stash:
        return
    if run.recorder.records:
        _show(terminalreporter, run)
    for line in _missing(config, run) if exitstatus != pytest.ExitCode.INTERRUPTED else ():
        terminalreporter.write_line(f"required, and not there: {line}", red=True)


def _show(terminalreporter: pytest.TerminalReporter, run: Run) -> None:
    terminalreporter.section("compatibility")
    for drawn in terminal.render(run.contract, run.recorder.records, color=terminalreporter.hasmarkup):
        terminalreporter.write_line(drawn)
    terminalreporter.write_line(f"records: {run.recorder.path}")
    if not any(one.verdict.decided for one in run.recorder.records):
        terminalreporter.write_line("nothing was decided", red=True)
