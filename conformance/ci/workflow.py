"""The nightly's jobs: read from its workflow, whose modes come from the contract, and checked to test every cell.

Only the workflow names hosts, and only the contract names modes and features.
"""

import argparse
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import ContractError
from conformance.model import mode as modes_
from conformance.model import record
from conformance.model.contract import Contract
from conformance.util import paths
from conformance.workers import selection

FOLDER = paths.PROJECT / ".github" / "workflows"
NIGHTLY = FOLDER / "nightly.yml"

COMMAND = "./run matrix"

TRUSTED = {"schedule", "workflow_dispatch"}
"""Events that start a workflow without a pull request."""

ON_DEFAULT_BRANCH = "github.ref == format('refs/heads/{0}', github.event.repository.default_branch)"

GENERATED = "# From the contract, by `conformance jobs --write`:"

_MATRIX = re.compile(r"(      matrix:\n        host: \[([^\]\n]*)\]\n)(?:        .*\n)+")
_EXPRESSION = re.compile(r"\$\{\{\s*matrix\.(\w+)\s*\}\}")
_PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


@dataclass(frozen=True)
class Job:
    """One mode on one host.

    Attributes:
        host: the workflow's name for it.
        mode: the contract's.
        runs_on: labels of the runner.
        minutes: until its time is up.
        command: of the matrix.
        artefact: name of the upload of its records.
    """

    host: str
    mode: str
    runs_on: tuple[str, ...]
    minutes: int
    command: tuple[str, ...]
    artefact: str

    @property
    def selection(self) -> tuple[str, ...]:
        """Return the command's words that select tests, except the mode."""
        parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
        for option in ("--host", "--results", "--mode"):
            parser.add_argument(option)
        return tuple(parser.parse_known_args(self.command[len(COMMAND.split()) :])[1])

    @property
    def command_mode(self) -> str:
        """Return the mode that the command names; empty if it names none."""
        parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
        parser.add_argument("--mode", default="")
        return str(parser.parse_known_args(self.command)[0].mode)


def load(workflow: Path = NIGHTLY) -> list[Job]:
    """Return the jobs of the workflow that run the matrix.

    Raises:
        ContractError: the workflow cannot be read, or has another form.
    """
    try:
        return [
            job for name, described in _read(workflow)["jobs"].items() for job in _expanded(workflow, name, described)
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ContractError(f"{workflow.name} has another form than expected: {error!r}") from error


def _read(workflow: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(f"cannot read {workflow}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ContractError(f"{workflow.name} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ContractError(f"{workflow.name} is not a workflow: it has no keys")
    # YAML 1.1 takes the word "on" for a truth value.
    return {"on" if key is True else str(key): value for key, value in data.items()}


def _expanded(workflow: Path, name: str, described: Mapping[str, Any]) -> Iterator[Job]:
    """Yield a job of the file once for each cell of its matrix; none without a matrix."""
    matrix = dict(described.get("strategy", {}).get("matrix", {}))
    excluded = matrix.pop("exclude", [])
    for values in itertools.product(*matrix.values()):
        place = dict(zip(matrix, map(str, values), strict=True))
        if not matrix:
            return
        if place in excluded:
            continue
        steps = [_filled(step, place) for step in described["steps"]]
        commands = [step for step in steps if step.get("run", "").startswith(COMMAND)]
        artefacts = [step["with"]["name"] for step in steps if "/upload-artifact@" in step.get("uses", "")]
        if len(commands) != 1 or len(artefacts) != 1:
            raise ContractError(f"{workflow.name}: job {name} does not have one step with {COMMAND} and one upload")
        labels = described["runs-on"]
        yield Job(
            host=place["host"],
            mode=place["mode"],
            runs_on=(labels,) if isinstance(labels, str) else tuple(labels),
            minutes=int(described["timeout-minutes"]),
            command=tuple(shlex.split(_with_environment(commands[0]))),
            artefact=artefacts[0],
        )


def _filled(part: Any, place: Mapping[str, str]) -> Any:
    """Return a part of a workflow with the matrix's values in it."""
    if isinstance(part, dict):
        return {key: _filled(value, place) for key, value in part.items()}
    return _EXPRESSION.sub(lambda found: place[found[1]], part) if isinstance(part, str) else part


def _with_environment(step: Mapping[str, Any]) -> str:
    environment = step.get("env", {})
    return re.sub(r"\$(\w+)", lambda found: str(environment[found[1]]), step["run"])


def generated(text: str, contract: Contract) -> str:
    """Return a workflow's text with the modes of each matrix made from the contract.

    A matrix has all modes for each of its hosts, except a mode that is another one without the host's security module.
    """
    return _MATRIX.sub(lambda found: found[1] + _modes(contract, re.split(r",\s*", found[2])), text)


def _modes(contract: Contract, hosts: Sequence[str]) -> str:
    lines = [GENERATED, "mode:", *(f"  - {claims.id}" for claims in contract.modes)]
    excluded = [
        f"  - {{ host: {host}, mode: {claims.id} }}"
        for host in hosts
        for claims in contract.modes
        if _is_another_mode(contract, claims.id, host)
    ]
    lines += (
        ["# Without AppArmor or SELinux, each of these is the same as another mode.", "exclude:", *excluded]
        if excluded
        else []
    )
    return "".join(f"        {line}\n" for line in lines)


def _is_another_mode(contract: Contract, mode: str, host: str) -> bool:
    """Return whether a mode needs a security module that a host lacks; the hosts' names tell those with SELinux."""
    present = "selinux" if host.endswith("-selinux") else "apparmor"
    made = modes_.from_contract(contract, mode)
    return any(modes_.without_module(contract, made, module) for module in modes_.MODULES if module != present)


def outdated(contract: Contract, workflow: Path = NIGHTLY) -> list[str]:
    """Return a line if the workflow's modes are not the contract's."""
    text = workflow.read_text(encoding="utf-8")
    current = generated(text, contract) == text
    return [] if current else [f"{workflow.name} has other modes than the contract: run conformance jobs --write"]


def check(contract: Contract, jobs: Iterable[Job], folder: Path = FOLDER) -> list[str]:
    """Return the errors, a line each: cells that no job tests, and runners that strangers could reach."""
    return [*_coverage(contract, list(jobs)), *_trust(folder)]


def _coverage(contract: Contract, jobs: list[Job]) -> Iterator[str]:
    # On a host without their security module, these are the same as other modes, and need no job.
    special = {
        one.id for one in contract.modes if modes_.needs_module(contract, modes_.from_contract(contract, one.id))
    }
    testable = [feature for feature in contract.features if not feature.pending]
    wanted = {(one.id, mode.id) for one in testable if not one.on_request for mode in contract.modes}
    wanted_anywhere = {
        (one.id, mode.id) for one in testable if one.on_request for mode in contract.modes if mode.id not in special
    }
    artefacts = [job.artefact for job in jobs]
    for twice in sorted({one for one in artefacts if artefacts.count(one) > 1}):
        yield f"several jobs upload {twice}"
    for job in jobs:
        if job.command_mode != job.mode:
            yield f"{job.artefact} should test {job.mode}, but its command tests {job.command_mode or 'all modes'}"
    if not jobs:
        yield "there is no job"
    # One collection for all modes with the same words: pytest takes seconds for each.
    found: dict[tuple[str, ...], selection.Cells] = {}
    for host in sorted({job.host for job in jobs}):
        here = [job for job in jobs if job.host == host]
        covered: set[tuple[str, str]] = set()
        for selected in {job.selection for job in here}:
            modes = sorted({job.mode for job in here if job.selection == selected})
            words = (*selected, *(word for mode in modes for word in ("--mode", mode)))
            if words not in found:
                found[words] = selection.collect_cells(words)
            covered |= found[words]
        excused = special - {job.mode for job in here}
        for feature, mode in sorted(wanted - covered):
            if mode not in excused:
                yield f"no job tests {feature} in {mode} on {host}"
        wanted_anywhere -= covered
    for feature, mode in sorted(wanted_anywhere):
        yield f"no job tests {feature} in {mode}"
    for mode in sorted(special - {job.mode for job in jobs}):
        yield f"no job tests {mode} on any host"


def _trust(folder: Path) -> Iterator[str]:
    for workflow in sorted(folder.glob("*.yml")):
        data = _read(workflow)
        triggers = data.get("on")
        strangers = {triggers} - TRUSTED if isinstance(triggers, str) else set(triggers or ()) - TRUSTED
        for name, job in data.get("jobs", {}).items():
            where = f"{workflow.name}: job {name}"
            if "self-hosted" in job.get("runs-on", ()):
                if strangers:
                    yield f"{where} is on a self-hosted runner, and {', '.join(sorted(strangers))} can start it"
                if ON_DEFAULT_BRANCH not in str(job.get("if", "")):
                    yield f"{where} is on a self-hosted runner, and runs on any branch"
            if "timeout-minutes" not in job:
                yield f"{where} has no timeout-minutes"
            for step in job.get("steps", ()):
                if "uses" in step and not _PINNED.fullmatch(step["uses"]):
                    yield f"{where} uses {step['uses']}, which is not pinned to a commit"


def missing(jobs: Iterable[Job], folder: Path) -> list[Job]:
    """Return the jobs whose records are not in a folder that holds each artefact in one of its name.

    Raises:
        HarnessError: a file there is not one of records.
    """
    return [job for job in jobs if not any(one.mode == job.mode for one in _records(folder / job.artefact))]


def _records(folder: Path) -> Iterator[record.Record]:
    for file in sorted(folder.rglob("*.jsonl")):
        yield from record.read_file(file, record.Record)
