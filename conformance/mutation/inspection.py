"""Inspection of the image at run time: a run of the suites with wrappers that record calls, and a traced entrypoint."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from conformance.engine import image, labels
from conformance.engine.api_errors import engine_errors
from conformance.errors import HarnessError
from conformance.mutation import dockerfile, image_source, order, wrapper
from conformance.mutation.concern import Concerns
from conformance.mutation.mutant import ImageFiles
from conformance.mutation.observation import Observation, digest
from conformance.run.check import Check
from conformance.run.context import Run
from conformance.selfcheck import seeding
from conformance.util import paths
from conformance.util.progress import Progress
from conformance.workers import sessions

PLACE = "/inspection"
"""The folder in the container for the records of calls and lines."""

UNTRACED = ("lib/cgroups.bash", "healthcheck", "create-user")
"""Scripts that run in shells of their own, wholly or in part."""

_TRACE = (
    "set -uo pipefail; if { exec 8>>" + PLACE + "/trace; } 2>/dev/null; then BASH_XTRACEFD=8 "
    "PS4='+${BASH_SOURCE##*/}:${LINENO}: '; set -x; fi"
)
_LINE = re.compile(r"^\++([a-z-]+(?:\.bash)?):(\d+): ", re.MULTILINE)

_EXAMINES = frozenset({"--version", "--print-capabilities", "--print-states"})
"""Options of calls by which libvirt examines a program."""

_CHANGING = re.compile(
    r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|[0-9a-f]{8}(?:-[0-9a-f]{4,}){4}|probe-[0-9a-f]+|\d+|[0-9a-f]{6,}"
)
"""Parts of a value that differ from one guest to another."""

_NETWORK = re.compile(r"virbr\d+|192\.168\.\d+\.\d+/\d+")
"""Parts of a rule that differ from one network to another."""

_RECORD = f"""if (open(my $calls, '>>', '{PLACE}/calls')) {{
  my @all = (PROGRAM, @words);
  for (@words) {{
    next unless /^--conf-file=(.*)/ && open(my $file, '<', $1);
    push @all, map {{ chomp; '--conf-line=' . $_ }} <$file>;
  }}
  print $calls join("\\t", @all), "\\n";
}}"""


def inspect(run: Run, concerns: Concerns, progress: Progress) -> Observation:
    """Observe the image in each mode of the concerns.

    Raises:
        HarnessError: the engine is on another host, or the suites could not run.
    """
    if not run.engine.local:
        raise HarnessError("the inspection mounts a folder of this machine", "use an engine on this machine")
    files = image_source.read()
    calls: list[list[str]] = []
    reached: dict[str, dict[str, tuple[int, ...]]] = {}
    for mode in dict.fromkeys(one.mode for one in concerns.concerns):
        progress(f"inspecting the image in mode {mode}")
        trace, lines = _session(run, files, concerns, mode)
        reached[mode] = _reached(files, trace)
        calls += [line.split("\t") for line in lines]
    return Observation(
        calls=shapes(calls),
        takes_along=_takes_along(run, files),
        reached=reached,
        sources={one: digest(text) for one, text in files.items()},
    )


def _session(run: Run, files: ImageFiles, concerns: Concerns, mode: str) -> tuple[str, list[str]]:
    """Run all checks of a mode's concerns, and return the trace of the scripts and the calls of programs."""
    ours = [one for one in concerns.concerns if one.mode == mode]
    features = dict.fromkeys(ask.feature for one in ours for ask in order.asks(one))
    named = [run.contract.feature(one).marker for one in features]
    placed = {
        "/usr/local/bin/entrypoint": (files["entrypoint"].replace("set -uo pipefail", _TRACE), 0o755),
        **{
            wrapper.path(one): (wrapper.script(one, _RECORD.replace("PROGRAM", wrapper.quoted(one))), 0o755)
            for one in wrapper.REAL
        },
    }

    def wanted(check: Check, _item: object) -> bool:
        return any(order.includes(one, concerns.slow, check.feature.id, check.check) for one in ours)

    with (
        tempfile.TemporaryDirectory(prefix="conformance-") as scratch,
        image.layer(run.engine, lambda _: None, run.image.id, "", run.id, placed) as built,
    ):
        seen = Path(scratch, "seen")
        seen.mkdir()
        for one in ("trace", "calls"):
            (seen / one).touch()
            (seen / one).chmod(0o666)
        mount = {"Type": "bind", "Source": str(seen), "Target": PLACE}
        part = seeding.part_of(
            run,
            Path(scratch),
            image=run.image.model_copy(update={"id": built}),
            call={"HostConfig": {"Mounts": [mount]}},
        )
        places = [str(paths.SUITES / f"test_{one}.py") for one in named]
        sessions.run_within(part, [*places, f"--libvirt-mode={mode}", "-m", " or ".join(named)], wanted)
        return (seen / "trace").read_text(errors="replace"), (seen / "calls").read_text(errors="replace").splitlines()


def _reached(files: ImageFiles, trace: str) -> dict[str, tuple[int, ...]]:
    lines: dict[str, set[int]] = defaultdict(set)
    for name, number in _LINE.findall(trace):
        lines[name].add(int(number))
    return {
        one: tuple(sorted(lines[one.rpartition("/")[2]]))
        for one, text in files.items()
        if text.startswith("#!/bin/bash") and one not in UNTRACED
    }


def _takes_along(run: Run, files: ImageFiles) -> dict[str, tuple[str, ...]]:
    """Return for each installed package the ones that apt would remove with it."""
    listed = dockerfile.packages(files)
    found = {}
    for one in listed:
        with engine_errors():
            told = run.engine.client.containers.run(
                run.image.id,
                ["--simulate", "remove", one],
                entrypoint="apt-get",
                labels={labels.RUN: run.id},
                remove=True,
            ).decode()
        found[one] = tuple(sorted(set(re.findall(r"^Remv (\S+)", told, re.MULTILINE)) & set(listed) - {one}))
    return found


def shapes(calls: Iterable[Sequence[str]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return by program the options of some calls, each shape once, with the first example of its value."""
    found: dict[str, dict[tuple[str, str], tuple[str, str]]] = defaultdict(dict)
    for program, *words in calls:
        if program.endswith("tables"):
            if "--insert" in words or "--append" in words:
                call = " ".join(words)
                found[program].setdefault((_NETWORK.sub("#", call), ""), (call, ""))
            continue
        if _EXAMINES.intersection(words) or (program.startswith("qemu") and "-name" not in words):
            continue
        configured = "dnsmasq.conf" in found
        for option, value in _options(words):
            if option == "--conf-line":
                if not configured:
                    key, _, text = value.partition("=")
                    found["dnsmasq.conf"][key, text] = (key, text)
            else:
                found[program].setdefault((option, _shape(value)), (option, value))
    return {program: tuple(shape.values()) for program, shape in sorted(found.items())}


def _options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options of a call with their values."""
    found: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
            found.append((option, value))
        elif word.startswith("-") or not found:
            found.append((word, ""))
        elif not found[-1][1]:
            found[-1] = (found[-1][0], word)
    return found


def _shape(text: str) -> str:
    """Return a text without the parts that differ from one guest or network to another."""
    return _CHANGING.sub("#", text)
