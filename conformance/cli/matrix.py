"""``conformance matrix``."""

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from conformance.cli import checkout, documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import PASS_ON
from conformance.cli.target import engine_target
from conformance.lab import definition
from conformance.model import contract, record
from conformance.plugin.settings import SETTINGS
from conformance.util.progress import Progress
from conformance.workers import pool, sessions
from conformance.workers import selection as selections
from conformance.workers.hosts import EngineTarget, MatrixRun, colored

app = typer.Typer()


class _PytestCommand(TyperCommand):
    """Splits pytest's short options from their values: typer would read ``-mnat`` as several options of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split options from values, then parse; the context's type is private to typer."""
        return super().parse_args(ctx, [piece for word in args for piece in _split_option(word)])


def _split_option(word: str) -> tuple[str, ...]:
    return (word[:2], word[2:]) if re.match(r"-[ckmoprW].", word) else (word,)


@app.command(
    cls=_PytestCommand,
    context_settings=PASS_ON,
    epilog=manual(
        {
            EXAMPLES: {
                "conformance matrix": "build the image, test everything",
                "conformance matrix -m 'nat or kvm' --mode least": "two features",
                "conformance matrix --require kvm": "fail if KVM cannot be tested",
                "conformance matrix --image any/libvirt:1": "test another image",
                "conformance matrix --host lab:debian-13": "on a virtual machine",
                "conformance matrix -m nat --repeat 5": "find flaky checks",
            },
            STATUS: {
                "0, 5": "no cell is bad; there is no verdict",
                "1": "a cell is bad, or a required one has no verdict",
            }
            | COMMON_STATUS,
        }
    ),
)
def matrix(
    context: typer.Context,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="lab[:NAME]|here", help="virtual machine, or this one; repeatable"),
    ] = None,
    at_once: Annotated[int, typer.Option("-n", metavar="N", min=1, help="modes to test in parallel on each host")] = 1,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, help="number of runs")] = 1,
) -> None:
    """Run the feature matrix; takes pytest's options.

    Its own options besides those below, such as --mode, --image and
    --results, are in docs/testing.md and in the output of pytest --help.

    With -n, each mode runs in a pytest process of its own, N at a time;
    modes in the host's network never run in parallel. With --repeat, checks
    that differ from run to run are shown as flaky, with counts.

    With --host lab, the tests run on a virtual machine's engine. Several
    hosts run in parallel, each with all tests. If no engine answers, a
    private one starts, and stops at the end.
    """
    words = checkout.with_absolute_paths(context.args)
    checkout.enter()
    hosts = dict.fromkeys(definition.named(one) for one in host or [definition.HERE])
    only_lists = bool({"--collect-only", "--co"} & set(words))
    parallel = (at_once > 1 or len(hosts) > 1) and not only_lists
    selection = _selection([*pool.NO_CACHE, *words] if parallel else words)
    if len(hosts) > 1 and selection and selection.host_name:
        raise typer.BadParameter("--host-name names one host, but --host names several: leave out one of them")
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(engine_target(one)) for one in hosts]
        if parallel and selection and selection.cells:
            status = _run_in_parallel(places, words, selection, at_once, repeat)
        else:
            os.environ["DOCKER_HOST"] = places[0].address
            status = _run_here([*places[0].arguments, *words], selection, repeat)
    # Records in another folder, such as the benchmark's, do not change the README's tables.
    if not only_lists and not any(word.startswith(SETTINGS["results"].options) for word in words):
        documents.refresh()
    raise typer.Exit(status)


def _run_here(words: list[str], selection: selections.Selection | None, repeat: int) -> int:
    """Run pytest in this process, ``repeat`` times."""
    status, runs = sessions.repeat(lambda: sessions.run_suites(words), repeat)
    _print_together(selection, runs)
    return status


def _run_in_parallel(
    places: Sequence[EngineTarget], words: list[str], selection: selections.Selection, at_once: int, repeat: int
) -> int:
    """Run pytest in a process for each mode on each host, ``repeat`` times."""
    run = MatrixRun(selection, tuple(words), at_once, Progress(), typer.echo)
    run.prepare(places)
    status, runs = sessions.repeat(run.run, repeat)
    _print_together(selection, runs)
    return status


def _print_together(selection: selections.Selection | None, runs: Sequence[Sequence[record.Record]]) -> None:
    """Print the table of several runs together."""
    if selection and len(runs) > 1:
        records = [one for run in runs for one in run]
        claims = contract.load(selection.contract)
        typer.echo("\n" + sessions.table_of_all(claims, f"all {len(runs)} runs together", records, color=colored()))


def _selection(words: list[str]) -> selections.Selection | None:
    """Return the tests that pytest's options select, if any.

    Exits with pytest's own message if pytest rejects the options, before any engine starts.
    """
    collected = selections.collect(words)
    if collected.status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        typer.echo(collected.output, err=True, nl=False)
        raise typer.Exit(collected.status)
    return collected.selection
