"""``conformance matrix``."""

import contextlib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from conformance.cli import checkout, documents
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import PASS_ON
from conformance.cli.target import engine_target
from conformance.engine import client, image
from conformance.lab import definition
from conformance.model import contract, record
from conformance.model.contract import Contract
from conformance.plugin.settings import SETTINGS
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.workers import pool, sessions
from conformance.workers import selection as selections
from conformance.workers.hosts import MatrixRun, colored

app = typer.Typer()

REMEDY = "  what to do:"
"""Begins the last line of an error."""

CACHE_OPTIONS = frozenset(
    (
        *(
            "--lf",
            "--last-failed",
            "--ff",
            "--failed-first",
            "--nf",
            "--new-first",
            "--lfnf",
            "--last-failed-no-failures",
        ),
        *("--sw", "--stepwise", "--sw-skip", "--stepwise-skip", "--sw-reset", "--stepwise-reset"),
        *("--cache-show", "--cache-clear"),
    )
)
"""pytest's options of the cache of last failures."""


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
                "conformance matrix -m 'nat or kvm'": "two features",
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
    publish: Annotated[bool, typer.Option("--publish", help="for maintainers: write results/, tables")] = False,
) -> None:
    """Run the feature matrix; takes pytest's options.

    Those of the matrix, such as --mode, --image and --profile, are in
    docs/testing.md and in the output of pytest --help. Records, log and
    report.html go to artefacts/RUN, or to --results=FOLDER.

    With -n, each mode runs in a pytest process of its own, N at a time;
    modes in the host's network never run in parallel. With --repeat, checks
    that differ from run to run are shown as flaky, with counts.

    With --host lab, the tests run on a virtual machine's engine. Several
    hosts run in parallel, each with all tests. If no engine answers, a
    private one starts, and stops at the end.
    """
    words = _words(context.args, publish=publish)
    checkout.enter()
    hosts = dict.fromkeys(definition.named(one) for one in host or [definition.HERE])
    only_lists = bool({"--collect-only", "--co"} & set(words))
    parallel = (at_once > 1 or len(hosts) > 1) and not only_lists
    if parallel:
        _refuse_cache(words)
    selection = _selection([*pool.NO_CACHE, *words] if parallel else words)
    if len(hosts) > 1 and selection and selection.host_name:
        raise typer.BadParameter("--host-name names one host, but --host names several: leave out one of them")
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(engine_target(one)) for one in hosts]
        if parallel and selection and selection.cells:
            run = MatrixRun(selection, tuple(words), at_once, Progress(quiet=selection.verbose < 0), typer.echo)
            run.prepare(places)
            done = sessions.repeat(run.run, repeat, selection.results)
        else:
            if selection and selection.image and not only_lists:
                image.require(client.connect(places[0].address), selection.image)
            os.environ["DOCKER_HOST"] = places[0].address
            words = [*places[0].arguments, *words]
            results = selection.results if selection else None
            done = sessions.repeat(lambda folder: sessions.run_suites(words, folder), repeat, results)
    if selection and done.folder:
        _print_end(contract.load(selection.contract), done.runs, done.folder)
    if publish and not only_lists:
        documents.write_tables(check=False)
    raise typer.Exit(done.status)


def _words(arguments: Sequence[str], *, publish: bool) -> list[str]:
    """Return pytest's options, with absolute paths; ``--publish`` adds the folder of the project's records."""
    words = checkout.with_absolute_paths(arguments)
    if not publish:
        return words
    paths.require_checkout("matrix --publish")
    if any(word.partition("=")[0] in SETTINGS["results"].options for word in words):
        raise typer.BadParameter("--publish records into results/, and --results elsewhere: leave out one of them")
    return [*words, *sessions.results_option(paths.RESULTS)]


def _print_end(claims: Contract, runs: Sequence[Sequence[record.Record]], folder: Path) -> None:
    """Print the summary of several runs together, and write the report."""
    if len(runs) > 1:
        records = [one for run in runs for one in run]
        title = f"all {len(runs)} runs together"
        typer.echo("\n" + sessions.summary_of_all(claims, title, records, folder, color=colored()))
    typer.echo(f"report: {documents.write_report(claims, folder)}")


def _selection(words: list[str]) -> selections.Selection | None:
    """Return the tests that pytest's options select, if any.

    Exits with pytest's own message if pytest rejects the options, or if no test matches them, before any engine starts.
    """
    collected = selections.collect(words)
    if collected.status == pytest.ExitCode.INTERNAL_ERROR:
        typer.echo(collected.output, err=True, nl=False)
    elif collected.status == pytest.ExitCode.USAGE_ERROR:
        message = selections.usage_error(collected.output)
        remedy = (
            ""
            if REMEDY in message
            else f"\n{REMEDY} correct the options; {paths.COMMAND} matrix --help and pytest --help list them"
        )
        typer.echo(f"error: {message}{remedy}", err=True)
    elif collected.status == pytest.ExitCode.NO_TESTS_COLLECTED:
        typer.echo(
            f"no check matches the options: {shlex.join(words)}\n{REMEDY} choose others;"
            f" {paths.COMMAND} matrix --collect-only lists all checks, and docs/testing.md the features and modes",
            err=True,
        )
    else:
        return collected.selection
    raise typer.Exit(collected.status)


def _refuse_cache(words: Sequence[str]) -> None:
    """Raise where an option needs the last failures, which workers do not keep: each has those of one mode."""
    used = [word for word in words if word.partition("=")[0] in CACHE_OPTIONS]
    if used:
        raise typer.BadParameter(
            f"{', '.join(used)} cannot be combined with -n or several hosts: only one session knows its last failures."
            f" Leave out {used[0]}, or -n and --host"
        )
