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
from conformance.cli.manual import EXAMPLES, STATUS, manual
from conformance.cli.options import PASS_ON
from conformance.cli.target import engine_target
from conformance.lab import definition
from conformance.model import contract, record
from conformance.plugin.settings import SETTINGS
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.workers import pool, sessions
from conformance.workers import selection as selections
from conformance.workers.hosts import EngineTarget, MatrixRun, colored

app = typer.Typer()


class _TakesPytestsWords(TyperCommand):
    """Leaves a short option of pytest with its value alone: ``-mnat`` would be searched for options of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take option and value apart; the context's type is typer's own, and not public."""
        return super().parse_args(ctx, [piece for word in args for piece in _apart(word)])


def _apart(word: str) -> tuple[str, ...]:
    return (word[:2], word[2:]) if re.match(r"-[ckmoprW].", word) else (word,)


@app.command(
    cls=_TakesPytestsWords,
    context_settings=PASS_ON,
    epilog=manual(
        {
            EXAMPLES: {
                "conformance matrix": "all of it, with an image that is built first",
                "conformance matrix -m 'nat or virtio_disk' --mode unprivileged": "two features in one mode",
                "conformance matrix -m kvm --mode privileged --require kvm": "fail where KVM cannot be asked",
                "conformance matrix --image any/libvirt:1 --results=/tmp/any": "another image",
                "conformance matrix --host lab:debian-13": "on a virtual machine",
                "conformance matrix -m nat --repeat 5": "whether it works each time",
            },
            STATUS: {
                "0": "what was asked was decided, and nothing is wrong",
                "1": "a cell fails, is fixed or an error, or what is required was not decided",
                "2": "interrupted",
                "4": "a bad option",
                "5": "nothing was decided",
                "6": "nothing can run; the message says what to do",
            },
        }
    ),
)
def matrix(
    context: typer.Context,
    host: Annotated[
        list[str] | None, typer.Option(metavar="lab[:NAME]|here", help="a virtual machine, or this one; repeatable")
    ] = None,
    at_once: Annotated[int, typer.Option("-n", metavar="N", min=1, help="ask so many modes of a host at once")] = 1,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, help="ask so often, each time as a run of its own")] = 1,
) -> None:
    """Run the matrix on an engine, record it, and write the README's tables; takes pytest's options.

    With -n modes are asked side by side, each by a session in a process of its own; those in the host's network one
    after another. With --repeat what answers differently from run to run is shown as flaky, with counts.

    With --host lab the engine is a virtual machine's. Several hosts are asked side by side, each of them everything.
    Where no engine answers otherwise, a private one is started, and stopped at the end.
    """
    words = checkout.with_absolute_paths(context.args)
    checkout.enter()
    if {"-h", "--help"} & set(words):
        typer.echo(context.get_help())
        typer.echo('\npytest\'s options, those of the matrix under "libvirt in a container":\n')
        raise typer.Exit(pytest.main([*paths.TESTS, "--help"]))
    hosts = dict.fromkeys(definition.named(one) for one in host or [definition.HERE])
    only_lists = bool({"--collect-only", "--co"} & set(words))
    in_parts = (at_once > 1 or len(hosts) > 1) and not only_lists
    selection = _selection([*pool.NO_CACHE, *words] if in_parts else words)
    if len(hosts) > 1 and selection and selection.host_name:
        raise typer.BadParameter("--host-name is one host's, and several are asked")
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(engine_target(one)) for one in hosts]
        if in_parts and selection and selection.cells:
            status = _in_parts(places, words, selection, at_once, repeat)
        else:
            os.environ["DOCKER_HOST"] = places[0].address
            status = _sessions([*places[0].arguments, *words], selection, repeat)
    # Records that went elsewhere, as the benchmark's do, are not what the README's tables are made from.
    if not only_lists and not any(word.startswith(SETTINGS["results"].options) for word in words):
        documents.refresh()
    raise typer.Exit(status)


def _sessions(words: list[str], selection: selections.Selection | None, repeat: int) -> int:
    """Run pytest so often in this process."""
    status, runs = sessions.repeat(lambda: sessions.run_suites(words), repeat)
    _show_together(selection, runs)
    return status


def _in_parts(
    places: Sequence[EngineTarget], words: list[str], selection: selections.Selection, at_once: int, repeat: int
) -> int:
    """Run pytest so often, each time in a process for each mode on each host."""
    run = MatrixRun(selection, tuple(words), at_once, Progress(), typer.echo)
    run.prepare(places)
    status, runs = sessions.repeat(run.run, repeat)
    _show_together(selection, runs)
    return status


def _show_together(selection: selections.Selection | None, runs: Sequence[Sequence[record.Record]]) -> None:
    """Show what several runs together say."""
    if selection and len(runs) > 1:
        records = [one for run in runs for one in run]
        claims = contract.load(selection.contract)
        typer.echo("\n" + sessions.table_of_all(claims, f"all {len(runs)} runs together", records, color=colored()))


def _selection(words: list[str]) -> selections.Selection | None:
    """Return what pytest's options select, if anything.

    It ends with pytest's own words where it does not take them, before an engine is started for nothing.
    """
    collected = selections.collect(words)
    if collected.status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        typer.echo(collected.output, err=True, nl=False)
        raise typer.Exit(collected.status)
    return collected.selection
