"""The command line: ``conformance --help``."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from conformance.bench import measure, table
from conformance.bench import result as benchmark
from conformance.ci import gitlab, workflow
from conformance.cli import lab as commands
from conformance.cli.manual import COMMON_STATUS, ENVIRONMENT, EXAMPLES, FILES, STATUS, manual
from conformance.container.container import READY_SECONDS
from conformance.doctor import examination
from conformance.doctor import terminal as doctor_terminal
from conformance.engine import local_daemon
from conformance.errors import ContractError, HarnessError, ImageFailure
from conformance.lab import definition, machine, qemu_command, startup
from conformance.model import contract, mode, record
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.privileges import command, configuration, render
from conformance.privileges.claims import measured
from conformance.report import diff, html, markdown, merge
from conformance.run.context import OUTER
from conformance.selfcheck import change, outcome, trust
from conformance.selfcheck import command as selfchecking
from conformance.util import logs, paths, signals
from conformance.util.progress import Progress
from conformance.workers import pool, sessions
from conformance.workers import selection as asked
from conformance.workers.hosts import EngineTarget, Spread, colored

EXIT_BEHIND = 1
EXIT_SOMETHING_LACKS = 1
EXIT_NOT_SEEN = 1
EXIT_NOT_COVERED = 1
EXIT_WORSE = 1
EXIT_USAGE = 2

app = typer.Typer(
    help="Prove with real guests what libvirt in a container can do, and write it down.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "what this machine can be asked",
                "conformance matrix -m kvm --mode privileged": "ask one thing",
                "conformance COMMAND --help": "more of each command",
                "conformance --install-completion": "let the shell complete commands, modes and labs",
            },
            STATUS: {"0": "well", "1": "what was asked for is not so"} | COMMON_STATUS,
            ENVIRONMENT: {
                "DOCKER_HOST, DOCKER_CONTEXT": "the engine, as Docker's own command line takes them",
                "CONFORMANCE_CACHE": "the folder of downloads, media, labs and the private engine",
                "CONFORMANCE_DEBIAN_MIRROR": "the Debian archive to use instead of apt's",
                "NO_COLOR": "no colours, if it is not empty",
            },
            FILES: {
                "contract.toml": "features, modes, known failures",
                "results/": "the records that the README's tables are made from",
                "~/.cache/libvirt-conformance": "the cache; all of it can be deleted while nothing runs",
            },
        }
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="show the log's debug lines on stderr")] = False,
) -> None:
    if verbose:
        logs.show(Progress())


app.add_typer(commands.app, name="lab")

OneHost = Annotated[str | None, typer.Option(metavar="lab[:NAME]", help="a virtual machine")]
Image = Annotated[str | None, typer.Option(metavar="TAG", help="this image; ours is built by default")]


class _TakesPytestsWords(TyperCommand):
    """Leaves a short option of pytest with its value alone: ``-mnat`` would be searched for options of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take option and value apart; the context's type is typer's own, and not public."""
        return super().parse_args(ctx, [piece for word in args for piece in _apart(word)])


def _apart(word: str) -> tuple[str, ...]:
    return (word[:2], word[2:]) if re.match(r"-[ckmoprW].", word) else (word,)


PATHS = (
    *("--contract", "--iso", "--results", "--virtio-win-iso", "--windows-iso"),
    *("--basetemp", "--junit-xml", "--junitxml", "--log-file"),
)
"""The options of the matrix, ours and pytest's, that name a file or a folder."""


PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For verbs whose words belong to another program, its --help too."""


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
    words = _with_callers_paths(context.args)
    _enter_checkout()
    if {"-h", "--help"} & set(words):
        typer.echo(context.get_help())
        typer.echo('\npytest\'s options, those of the matrix under "libvirt in a container":\n')
        raise typer.Exit(pytest.main(["suites", "--help"]))
    hosts = dict.fromkeys(definition.named(one) for one in host or [definition.HERE])
    only_lists = bool({"--collect-only", "--co"} & set(words))
    in_parts = (at_once > 1 or len(hosts) > 1) and not only_lists
    selection = _selection([*pool.NO_CACHE, *words] if in_parts else words)
    if len(hosts) > 1 and selection and selection.host_name:
        raise typer.BadParameter("--host-name is one host's, and several are asked")
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(_engine(one)) for one in hosts]
        if in_parts and selection and selection.questions:
            status = _in_parts(places, words, selection, at_once, repeat)
        else:
            os.environ["DOCKER_HOST"] = places[0].address
            status = _sessions([*places[0].words, *words], selection, repeat)
    # Records that went elsewhere, as the benchmark's do, are not what the README's tables are made from.
    if not only_lists and not any(word.startswith("--results") for word in words):
        _write_tables(check=False)
    raise typer.Exit(status)


def _with_callers_paths(words: Sequence[str]) -> list[str]:
    """Return pytest's options, their paths made absolute: a relative one belongs to the folder of the caller."""
    made = []
    before = ""
    for word in words:
        option, equals, value = word.partition("=")
        if before in PATHS:
            made.append(str(Path(word).absolute()))
        elif equals and value and option in PATHS:
            made.append(f"{option}={Path(value).absolute()}")
        else:
            made.append(word)
        before = "" if before in PATHS else word
    return made


def _enter_checkout() -> None:
    """Change to the checkout, where pytest finds the suites; the cache stays where the caller named it."""
    if cache := os.environ.get("CONFORMANCE_CACHE"):
        os.environ["CONFORMANCE_CACHE"] = str(Path(cache).absolute())
    os.chdir(paths.PROJECT)


def _of_lab() -> tuple[str, ...]:
    """Return the options that fit any lab."""
    pci_pool = (f"--pci-device={address}" for address in qemu_command.SPARE)
    return f"--macvtap-link={qemu_command.BEYOND}", *pci_pool, f"--ready-seconds={machine.READY_SECONDS}"


def _sessions(words: list[str], selection: asked.Selection | None, repeat: int) -> int:
    """Run pytest so often in this process."""
    status, runs = sessions.ask(lambda: sessions.session(words), repeat)
    _show_together(selection, runs)
    return status


def _in_parts(
    places: Sequence[EngineTarget], words: list[str], selection: asked.Selection, at_once: int, repeat: int
) -> int:
    """Run pytest so often, each time in a process for each mode on each host."""
    spread = Spread(selection, tuple(words), at_once, Progress(), typer.echo)
    spread.get_ready(places)
    status, runs = sessions.ask(spread.ask, repeat)
    _show_together(selection, runs)
    return status


def _show_together(selection: asked.Selection | None, runs: Sequence[Sequence[record.Record]]) -> None:
    """Show what several runs together say."""
    if selection and len(runs) > 1:
        records = [one for run in runs for one in run]
        claims = contract.load(selection.contract)
        typer.echo("\n" + sessions.together(claims, f"all {len(runs)} runs together", records, color=colored()))


@contextlib.contextmanager
def _engine(host: definition.Host | None) -> Iterator[EngineTarget]:
    """Have an engine for as long as this lasts: a lab's, the one that answers, or a private one.

    Raises:
        LabError: the lab broke meanwhile; its console is beside it.
        EngineError: there is none, and none can be started.
    """
    if host is None:
        with local_daemon.engine(Progress()) as address:
            yield EngineTarget(address)
        return
    with startup.engine(host, Progress()) as (lab, tunnel):
        yield EngineTarget(f"unix://{tunnel.socket}", f"lab-{host.name}", {OUTER: lab.accel}, _of_lab())
        lab.check()


def _selection(words: list[str]) -> asked.Selection | None:
    """Return what pytest's options select, if anything.

    It ends with pytest's own words where it does not take them, before an engine is started for nothing.
    """
    looked = asked.look(words)
    if looked.status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        typer.echo(looked.said, err=True, nl=False)
        raise typer.Exit(looked.status)
    return looked.selection


@app.command(
    name="privileges",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance privileges": "the mode unprivileged, every feature",
                "conformance privileges --mode unprivileged-unconfined --host lab": "on a virtual machine with KVM",
                "conformance privileges --feature nat --feature kvm": "two features only, minutes",
                "conformance privileges --mode unprivileged-hostnet --part network-host": "one thing that a mode has",
            },
            FILES: {"results/privileges/": "one record for each start"},
            STATUS: {"0": "nothing is left to ask", "130": "interrupted; the next one goes on from here"}
            | COMMON_STATUS,
        }
    ),
)
def privileges_(
    mode_id: Annotated[str, typer.Option("--mode", metavar="NAME", help="the mode that is searched")] = "unprivileged",
    feature: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="ask this; repeatable; all by default")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="take away this; repeatable; all that the mode has by default"),
    ] = None,
    host: OneHost = None,
    image: Image = None,
    results: Annotated[Path, typer.Option(help="record into this folder")] = configuration.FOLDER,
) -> None:
    """Find out what each feature needs: take away a mode's exposures one at a time, then search for smallest sets.

    Each configuration is started once for all features, and recorded as soon as it was asked; what is recorded of the
    same image on the same host is not asked again, so that an interrupted search goes on where it was. Every removal
    that breaks a feature is tried twice, and then the whole mode once more. Takes an hour or so; progress says how
    much is left at most. Afterwards the tables are written.
    """
    results = results.absolute()
    _enter_checkout()
    command.require(contract.load(), mode_id, feature or (), part or ())
    definition_ = definition.named(host) if host else None
    with _engine(definition_) as place:
        os.environ["DOCKER_HOST"] = place.address
        found, known = command.search(
            mode_id,
            Progress(),
            features=feature or (),
            parts=part or (),
            folder=results,
            tag=image,
            host_name=place.name,
            host_facts=place.facts,
            ready_seconds=machine.READY_SECONDS if definition_ else READY_SECONDS,
        )
    typer.echo(command.summary(found, known))
    if results == configuration.FOLDER:
        _write_tables(check=False)


@app.command(
    name="selfcheck",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance selfcheck": "all of it, a quarter of an hour on two processors",
                "conformance selfcheck --defect no-dnsmasq": "one defect",
                "conformance selfcheck --defect untouched --host lab": "ten times nothing, on a virtual machine",
            },
            FILES: {
                "selfcheck/defects/": "a file for each defect, and who has to notice it",
                "selfcheck/benign/": "a file for each change that makes no difference",
                "results/selfcheck/": "one record for each that was asked",
            },
            STATUS: {
                "0": "every defect was caught, and nothing else gave an alarm",
                "1": "something was missed, caught for a wrong reason, or a false alarm",
            }
            | COMMON_STATUS,
        }
    ),
)
def selfcheck_(
    defect: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="ask about this defect or benign change; repeatable")
    ] = None,
    host: OneHost = None,
    image: Image = None,
    at_once: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, help="ask about so many at once; one for each processor by default"),
    ] = None,
    results: Annotated[Path, typer.Option(help="record into this folder")] = outcome.FOLDER,
) -> None:
    """Prove that the harness can see: break image, modes, media and harness on purpose, and look who notices.

    Each defect goes into a layer over the image, into what the engine is told, into what guests boot from, or into a
    copy of the project. Only who has to notice is asked, and has to name the cause. Benign changes, and the untouched
    image again and again, must give no alarm. Each outcome is recorded at once; what is recorded of the same image on
    the same host, asked by the same suites, is not asked again. Afterwards the tables are written.

    Several are asked about side by side, each by a process of its own; on a virtual machine one after another.
    """
    results = results.absolute()
    _enter_checkout()
    if host and (at_once or 1) > 1:
        raise typer.BadParameter("-n is for this machine: a virtual one has a single processor")
    wanted = change.chosen(change.load(), defect or ())
    definition_ = definition.named(host) if host else None
    with _engine(definition_) as place:
        os.environ["DOCKER_HOST"] = place.address
        found = selfchecking.selfcheck(
            wanted,
            Progress(),
            folder=results,
            tag=image,
            host_name=place.name,
            host_facts=place.facts,
            ready_seconds=machine.READY_SECONDS if definition_ else READY_SECONDS,
            pci_devices=qemu_command.SPARE if definition_ else (),
            at_once=1 if definition_ else at_once or len(os.sched_getaffinity(0)),
        )
    typer.echo(selfchecking.summary(found))
    if results == outcome.FOLDER:
        _write_tables(check=False)
    if not all(one.result.good for one in found):
        raise typer.Exit(EXIT_NOT_SEEN)


@app.command(
    name="bench",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance bench": "all, minutes",
                "conformance bench --only engine --results /tmp/b": "one part, kept out of the documented results",
                "conformance bench --render": "write the newest result's table again",
            },
            STATUS: {"0": "measured"} | COMMON_STATUS,
        }
    ),
)
def bench_(
    repeat: Annotated[int, typer.Option(min=1, help="how often to repeat what is short")] = 5,
    matrices: Annotated[
        int, typer.Option(min=0, help="how often to run what takes minutes: the matrix in one mode, two modes at once")
    ] = 1,
    results: Annotated[Path, typer.Option(help="write the result into this folder")] = paths.BENCH,
    host_name: Annotated[str | None, typer.Option(help="what the result calls this host")] = None,
    only: Annotated[
        measure.Part | None, typer.Option(help="measure only this; extra: what the options beside it ask for")
    ] = None,
    lab_build: Annotated[bool, typer.Option("--lab-build", help="measure a lab's first build too; minutes")] = False,
    lab_boots: Annotated[
        int, typer.Option(min=0, metavar="N", help="boot N guests in a row under a lab's KVM too; half a minute each")
    ] = 0,
    render: Annotated[bool, typer.Option("--render", help="measure nothing; write the table")] = False,
    document: Annotated[Path, typer.Option(help="the document with the table")] = paths.PERFORMANCE,
) -> None:
    """Measure what the image and the harness cost beside targets, record it, and write docs/performance.md's table.

    Container start, domain start, a probe guest through libvirt beside the same one under bare QEMU, and the matrix
    in one mode as ./run runs it: what its time goes into, its first container, its guests, its memory. Two modes one
    after the other and side by side. A lab: its starts, its disk, its memory, and what it takes while it is idle.
    Leave the machine alone meanwhile. Where no engine answers, a private one is started, and stopped at the end.
    """
    if not render:
        progress = Progress()
        with local_daemon.engine(progress) as host:
            os.environ["DOCKER_HOST"] = host
            measured = measure.measure(
                progress,
                repeat=repeat,
                matrices=matrices,
                host_name=host_name,
                only=only,
                lab_build=lab_build,
                lab_boots=lab_boots,
            )
        progress.clear()
        typer.echo(f"recorded {measured.write(results).name}")
    measurements = benchmark.read(results)
    _replace(document, lambda before: table.render(before, measurements))
    typer.echo(table.performance(measurements))


@app.command(
    name="engine",
    context_settings=PASS_ON | {"help_option_names": ["--help"]},
    epilog=manual(
        {
            EXAMPLES: {
                "conformance engine docker ps": "the private engine's containers",
                "conformance engine bash": "work with it until the shell ends",
            },
            STATUS: {"COMMAND's": "where it was run"} | COMMON_STATUS,
        }
    ),
)
def engine_(context: typer.Context) -> None:
    """Run COMMAND with DOCKER_HOST set to an engine: the one that answers, or a private one until COMMAND ends."""
    if not context.args:
        raise typer.BadParameter("which command? conformance engine COMMAND [ARGUMENT ...]")
    raise typer.Exit(local_daemon.run(context.args, Progress()))


def _mode_names() -> list[str]:
    return [one.id for one in contract.load().modes]


@app.command(
    epilog=manual(
        {
            EXAMPLES: {
                "conformance modes": "list them",
                "conformance modes privileged --docker": "its docker run command",
                "conformance modes unprivileged --compose --image any/libvirt:1": "its Compose file, for another image",
                "conformance modes --json": "all of them, with their exposures, for programs",
            },
            STATUS: {"0": "written"} | COMMON_STATUS,
        }
    )
)
def modes(
    name: Annotated[
        str | None, typer.Argument(help="a mode; without one, all are listed", autocompletion=_mode_names)
    ] = None,
    docker: Annotated[bool, typer.Option("--docker", help="print its docker run command")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="print its Compose file")] = False,
    image: Annotated[str, typer.Option(help="the image's name in them")] = markdown.IMAGE,
    as_json: Annotated[bool, typer.Option("--json", help="list as JSON, with exposures and documented need")] = False,
) -> None:
    """List the privilege modes, or render one as a docker run command or a Compose file."""
    claims = contract.load()
    if as_json:
        if docker or compose:
            raise typer.BadParameter("--json, --docker or --compose, not several")
        listed = [mode.from_contract(claims, one) for one in ([name] if name else _mode_names())]
        _echo_json([one.as_json() for one in listed])
        return
    if name is None:
        if docker or compose:
            raise typer.BadParameter("which mode? conformance modes NAME --docker|--compose")
        width = max(len(one.id) for one in claims.modes)
        for one in claims.modes:
            typer.echo(f"{one.id:<{width}}  {one.summary}")
        return
    chosen = mode.from_contract(claims, name)
    if docker and compose:
        raise typer.BadParameter("--docker or --compose, not both")
    if docker:
        typer.echo(chosen.script(image))
    elif compose:
        typer.echo(chosen.compose(image), nl=False)
    else:
        typer.echo(f"{chosen.id}: {chosen.summary}")
        for exposure in chosen.exposures:
            typer.echo(f"  {markdown.shown(exposure):<32}{exposure.function} ({exposure.documented})")


@app.command(
    name="doctor",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "for people",
                "conformance doctor --json": "for programs; a state is yes, no or unknown",
                "DOCKER_HOST=ssh://root@kvm.example conformance doctor": "another machine",
            },
            STATUS: {
                "0": "everything can be asked",
                "1": "something cannot, or that is unknown",
                "6": "nothing can run",
            },
        }
    ),
)
def doctor_(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Say in seconds what this machine, or the one of DOCKER_HOST, can and cannot be asked, why, and what to change.

    Nothing is built or installed for it; what cannot be tried without an image stays unknown until the engine has one.
    """
    progress = Progress()
    try:
        report = examination.examine(contract.load(), progress)
    finally:
        progress.clear()
    if as_json:
        _echo_json([dataclasses.asdict(one) for one in report.findings])
    else:
        doctor_terminal.show(report)
    if report.nothing_runs:
        raise typer.Exit(EXIT_CANNOT_RUN)
    if not report.everything_runs:
        raise typer.Exit(EXIT_SOMETHING_LACKS)


@app.command(
    name="jobs",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance jobs": "list them",
                "conformance jobs --check": "in a CI: does the workflow ask every feature in every mode?",
                "conformance jobs --missing cells": "in the nightly: whose records are not there?",
                "conformance jobs --gitlab >pipeline.yml": "the same jobs as a pipeline of GitLab's",
            },
            STATUS: {"0": "well", "1": "something is not asked or not safe, or records are missing"} | COMMON_STATUS,
            FILES: {".github/workflows/nightly.yml": "the jobs"},
        }
    ),
)
def jobs_(
    as_json: Annotated[bool, typer.Option("--json", help="list as JSON")] = False,
    as_gitlab: Annotated[bool, typer.Option("--gitlab", help="list as a pipeline of GitLab's")] = False,
    check: Annotated[bool, typer.Option("--check", help="list nothing; say which cells no job asks")] = False,
    missing: Annotated[
        Path | None, typer.Option(exists=True, help="list only the jobs whose artefact here has no record")
    ] = None,
) -> None:
    """List the nightly's jobs, one for each mode on each host, or prove that they ask all that can be asked."""
    known = workflow.load()
    if check:
        wrong = workflow.check(contract.load(), known)
        for line in wrong:
            typer.echo(line, err=True)
        if not wrong:
            typer.echo(f"{len(known)} jobs ask every feature in every mode")
        raise typer.Exit(EXIT_NOT_COVERED if wrong else 0)
    listed = known if missing is None else workflow.missing(known, missing)
    if as_json:
        _echo_json([dataclasses.asdict(one) for one in listed])
    elif as_gitlab:
        typer.echo(gitlab.pipeline(listed), nl=False)
    else:
        for one in listed:
            runner = ", ".join(one.runs_on)
            typer.echo(f"{one.artefact}: {shlex.join(one.command)} ({runner}; {one.minutes} minutes)")
    if missing is not None and listed:
        raise typer.Exit(EXIT_NOT_COVERED)


def _echo_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


@app.command(
    name="tables",
    epilog=manual(
        {
            EXAMPLES: {"conformance tables": "after a change of the contract", "conformance tables --check": "in a CI"},
            STATUS: {"0": "up to date", "1": "behind, with --check"} | COMMON_STATUS,
        }
    ),
)
def tables_(
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit 1 if the README is behind")] = False,
    readme: Annotated[Path, typer.Option(help="the document with the generated blocks")] = paths.README,
    results: Annotated[Path, typer.Option(help="the folder of the records")] = paths.RESULTS,
) -> None:
    """Write the README's generated blocks from the contract and the records."""
    _write_tables(check=check, readme=readme, results=results)


@app.command(
    epilog=manual(
        {
            EXAMPLES: {
                "conformance report": "write report.html from results/",
                "conformance report --results night.jsonl --output /tmp/night.html": "of one run, elsewhere",
            },
            STATUS: {"0": "written"} | COMMON_STATUS,
        }
    )
)
def report(
    output: Annotated[Path, typer.Option(help="the file")] = paths.REPORT,
    results: Annotated[Path, typer.Option(exists=True, help="a file or a folder of records")] = paths.RESULTS,
) -> None:
    """Write the records as one HTML file that needs nothing beside itself: the matrix, and what each cell rests on."""
    _write(output, html.render(contract.load(), record.read(results)))
    typer.echo(f"wrote {output}")


Records = Annotated[Path, typer.Argument(exists=True, help="a file or a folder of records")]


@app.command(
    name="diff",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance diff results tonight": "what a night found out, beside what is documented",
                "conformance diff old.jsonl new.jsonl --json": "two runs, for a program",
            },
            STATUS: {"0": "nothing is worse", "1": "something is"} | COMMON_STATUS,
        }
    ),
)
def diff_(
    old: Records, new: Records, as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False
) -> None:
    """Say what differs between two sets of records; exit 1 if anything is worse.

    Worse is what newly fails or is newly flaky, an answer that is missing, and a cell that got slower. A cell is slower
    if its fastest new run took longer than its slowest old one, by more than the old ones differ from each other; fewer
    than three old runs say nothing of that.
    """
    claims = contract.load()
    compared = diff.compare(claims, *(_recorded(place) for place in (old, new)))
    worse = any(one.worse for one in compared)
    if as_json:
        typer.echo(json.dumps({"worse": worse, "hosts": [dataclasses.asdict(one) for one in compared]}, indent=2))
    else:
        typer.echo(diff.render(claims, compared))
    raise typer.Exit(EXIT_WORSE if worse else 0)


@app.command(
    name="merge",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance merge fetched/* --into results": "what runners recorded, each in a folder of its own",
                "conformance merge a.jsonl b.jsonl --into /tmp/both": "two runs",
            },
            STATUS: {"0": "merged"} | COMMON_STATUS,
        }
    ),
)
def merge_(
    places: Annotated[
        list[Path], typer.Argument(exists=True, help="files of records, and folders that have some in them")
    ],
    into: Annotated[Path, typer.Option(help="the folder", file_okay=False)],
) -> None:
    """Put the records of many runners into one folder, a file for each run.

    What was fetched twice is there once, and of a run that was fetched before its end the longer part is kept. Where
    two files say different things of one run, or something is no record, nothing is written.
    """
    merged = merge.merge(places, into)
    if not merged.written and not merged.known:
        raise typer.BadParameter(f"there is no record in {', '.join(map(str, places))}")
    typer.echo(f"{len(merged.written)} new, {merged.known} known in {into}")
    for file in merged.written:
        typer.echo(f"  {file}")
    for name in merged.twins:
        typer.echo(f"more than one machine is called {name}: give each a --host-name of its own", err=True)


def _recorded(place: Path) -> list[record.Record]:
    records = list(record.read(place))
    if not records:
        raise typer.BadParameter(f"there is no record in {place}")
    return records


def _write_tables(*, check: bool, readme: Path = paths.README, results: Path = paths.RESULTS) -> None:
    claims = contract.load()
    makers = render.makers(claims, measured(claims, configuration.read(results / configuration.FOLDER.name)))
    _replace(readme, lambda before: markdown.update(before, claims, record.read(results), makers), check=check)
    if readme == paths.README:
        _replace(paths.PRIVILEGES, lambda before: markdown.fill(before, makers), check=check)
        seen = trust.makers(claims, change.load(), outcome.read(results / outcome.FOLDER.name))
        _replace(paths.TRUST, lambda before: markdown.fill(before, seen), check=check)


def _replace(document: Path, made: Callable[[str], str], *, check: bool = False) -> None:
    """Make a document's generated blocks anew, or only say whether they are behind."""
    try:
        before = document.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read {document}: {error.strerror}", "name another document") from error
    after = made(before)
    if after == before:
        typer.echo(f"{document.name} is up to date")
    elif check:
        typer.echo(f"{document.name} is behind the contract and the records: run conformance tables", err=True)
        raise typer.Exit(EXIT_BEHIND)
    else:
        _write(document, after)
        typer.echo(f"wrote the tables into {document.name}")


def _write(document: Path, text: str) -> None:
    """Write a document whole or not at all: a full disk must not cost the one that was there."""
    beside = document.with_suffix(".new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(document)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise HarnessError(f"cannot write {document}: {error.strerror}", "make room, and run it again") from error


def main() -> None:
    """Run the command line; an error is one message that says what to do, and SIGTERM ends it as ctrl-C does."""
    end = logs.begin()
    try:
        with signals.as_ctrl_c():
            app()
    except ContractError as error:
        sys.exit(_say(error, EXIT_USAGE))
    except HarnessError as error:
        sys.exit(_say(error, EXIT_CANNOT_RUN))
    except ImageFailure as error:  # where no test answers for it, such as in a benchmark
        sys.exit(_say(HarnessError(f"the image failed: {error}", "find out how: conformance matrix"), EXIT_CANNOT_RUN))
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    finally:
        end()


def _say(error: Exception, status: int) -> int:
    footer = "" if status == EXIT_USAGE else logs.footer()
    typer.echo(f"error: {error}{footer}", err=True)
    return status
