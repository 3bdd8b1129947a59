"""The nightly's jobs: the project's own, and workflows in which something is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conformance.ci import gitlab
from conformance.ci import workflow as jobs
from conformance.cli import main, status
from conformance.errors import ContractError, HarnessError
from conformance.model.contract import Contract
from conformance.model.record import Record
from conformance.workers import selection

SHA = "3d3c42e5aac5ba805825da76410c181273ba90b1"
GUARD = f"if: {jobs.ON_DEFAULT_BRANCH}"

WORKFLOW = """
name: nightly
on: {triggers}
jobs:
  cell:
    {guard}
    strategy:
      matrix:
        host: [kvm]
        mode: [{modes}]
    runs-on: [self-hosted, kvm]
    timeout-minutes: 60
    steps:
      - uses: {checkout}
      - run: ./run matrix --mode "$MODE" --results=cell {words}
        env:
          MODE: ${{{{ matrix.mode }}}}
      - uses: actions/upload-artifact@{sha}
        with:
          name: cell-${{{{ matrix.host }}}}-${{{{ matrix.mode }}}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, contract: Contract) -> Write:
    """Writes a workflow in which one thing is different."""

    def write(**changes: str) -> Path:
        given = {
            "triggers": "[schedule, workflow_dispatch]",
            "guard": GUARD,
            "modes": ", ".join(mode.id for mode in contract.modes),
            "checkout": f"actions/checkout@{SHA}",
            "words": "",
            "sha": SHA,
        }
        file = tmp_path / "nightly.yml"
        file.write_text(WORKFLOW.format(**(given | changes)))
        return file

    return write


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    """Every feature is selected, whatever the words are; pytest itself takes seconds to say so."""

    def collect_cells(words: tuple[str, ...]) -> selection.Cells:
        modes = [word for word in words if word in {mode.id for mode in contract.modes}]
        return frozenset((feature.id, mode) for feature in contract.features if not feature.pending for mode in modes)

    monkeypatch.setattr(selection, "collect_cells", collect_cells)


def wrong(contract: Contract, workflow: Path) -> list[str]:
    return jobs.check(contract, jobs.load(workflow), workflow.parent)


def test_the_projects_own_jobs_ask_every_feature_in_every_mode_on_every_host(contract: Contract) -> None:
    known = jobs.load()
    assert jobs.check(contract, known) == []
    assert {job.host for job in known} >= {"kvm", "debian-12", "debian-13"}
    asked = {(job.host, job.mode) for job in known}
    assert ("debian-13-selinux", "unprivileged-unlabelled") in asked
    assert ("debian-13", "unprivileged-unlabelled") not in asked
    assert len({job.artefact for job in known}) == len(known)
    long = [job for job in known if "install" in " ".join(job.selection)]
    assert {job.host for job in long} == {"kvm"}
    assert len(known) - len(long) == len(asked)


def test_the_projects_own_modes_are_those_of_the_contract(contract: Contract) -> None:
    assert jobs.outdated(contract) == []


def test_a_new_mode_needs_nothing_but_the_contract(contract: Contract, tmp_path: Path) -> None:
    (nightly := tmp_path / "nightly.yml").write_text(jobs.NIGHTLY.read_text())
    new = contract.mode("unprivileged").model_copy(update={"id": "brand-new"})
    more = contract.model_copy(update={"modes": (*contract.modes, new)})
    (line,) = jobs.outdated(more, nightly)
    assert "conformance jobs --write" in line
    nightly.write_text(jobs.generated(nightly.read_text(), more))
    assert jobs.outdated(more, nightly) == []
    before, after = jobs.load(), jobs.load(nightly)
    added = [job for job in after if job not in before]
    assert {job.mode for job in added} == {"brand-new"}
    assert {job.host for job in added} == {job.host for job in before}
    assert all(job in after for job in before)


def test_each_night_the_harness_is_asked_about_itself() -> None:
    selfcheck = jobs._read(jobs.NIGHTLY)["jobs"]["selfcheck"]
    assert any(step.get("run", "").startswith("./run selfcheck") for step in selfcheck["steps"])
    assert selfcheck["timeout-minutes"] <= 60


def test_each_night_mutants_of_the_image_are_tested() -> None:
    mutation = jobs._read(jobs.NIGHTLY)["jobs"]["mutation"]
    assert any(step.get("run", "").startswith("./run mutate --time-limit 60") for step in mutation["steps"])
    assert 60 < mutation["timeout-minutes"] <= 90


@pytest.mark.usefixtures("quickly")
def test_a_job_is_read_as_it_will_run(contract: Contract, write: Write) -> None:
    workflow = write(words="--require kvm")
    assert wrong(contract, workflow) == []
    job = jobs.load(workflow)[0]
    assert (job.host, job.mode, job.minutes, job.artefact) == ("kvm", "least", 60, "cell-kvm-least")
    assert job.runs_on == ("self-hosted", "kvm")
    assert job.command == ("./run", "matrix", "--mode", "least", "--results=cell", "--require", "kvm")
    assert job.selection == ("--require", "kvm")


@pytest.mark.usefixtures("quickly")
def test_a_mode_of_a_security_module_need_not_be_asked_everywhere_but_somewhere(
    contract: Contract, write: Write
) -> None:
    others = [one.id for one in contract.modes if one.id != "unprivileged-unlabelled"]
    found = wrong(contract, write(modes=", ".join(others)))
    assert found == ["no job tests unprivileged-unlabelled on any host"]


@pytest.mark.usefixtures("quickly")
def test_a_mode_that_no_job_asks_is_told(contract: Contract, write: Write) -> None:
    found = wrong(contract, write(modes="unprivileged"))
    assert "no job tests kvm in privileged on kvm" in found
    assert not [line for line in found if "in unprivileged on" in line]


def test_a_feature_that_the_command_leaves_out_is_told(contract: Contract, write: Write) -> None:
    found = wrong(contract, write(words="-m 'not (nat or secure_boot)'"))
    left_out = {"nat", "secure-boot"}
    # What has to be asked for is not asked by "not" either; one host would do.
    assert {line.split()[3] for line in found if " on " in line} == left_out
    found = [line for line in found if " on " in line]
    assert len(found) == len(left_out) * len(contract.modes)


def test_what_has_to_be_asked_for_is_asked_on_one_host_at_least(
    contract: Contract, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {feature.id for feature in contract.features if feature.on_request}
    others = {feature.id for feature in contract.features if not feature.pending} - long
    found = {True: others | long, False: others}

    def collect_cells(words: tuple[str, ...]) -> selection.Cells:
        modes = [word for word in words if word in {mode.id for mode in contract.modes}]
        return frozenset((feature, mode) for feature in found["install" in words] for mode in modes)

    monkeypatch.setattr(selection, "collect_cells", collect_cells)
    assert long
    assert wrong(contract, write(words="-m install")) == []
    assert f"no job tests {min(long)} in {contract.modes[0].id}" in wrong(contract, write(words="-m kvm"))


def test_a_command_that_pytest_does_not_take_is_told(contract: Contract, write: Write) -> None:
    with pytest.raises(HarnessError, match="pytest refuses the options -m kvmm"):
        wrong(contract, write(words="-m kvmm"))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"triggers": "[schedule, pull_request]"}, "self-hosted runner, and pull_request can start it"),
        ({"triggers": "pull_request_target"}, "self-hosted runner, and pull_request_target can start it"),
        ({"triggers": "{issue_comment: {types: [created]}}"}, "self-hosted runner, and issue_comment can start it"),
        ({"guard": "name: cell"}, "self-hosted runner, and runs on any branch"),
        ({"checkout": "actions/checkout@v7"}, "uses actions/checkout@v7, which is not pinned to a commit"),
        (
            {"words": "--mode privileged"},
            "cell-kvm-unprivileged should test unprivileged, but its command tests privileged",
        ),
        ({"modes": "privileged, privileged"}, "several jobs upload cell-kvm-privileged"),
    ],
)
def test_what_is_not_safe_or_not_right_is_told(
    contract: Contract, write: Write, changes: dict[str, str], told: str
) -> None:
    assert any(told in line for line in wrong(contract, write(**changes)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jobs: [", "not YAML"),
        ("- a\n", "not a workflow"),
        ("name: nightly\n", "'jobs'"),
        (
            "jobs: {a: {strategy: {matrix: {host: [x], mode: [y]}}, steps: [{run: make}]}}",
            "job a does not have one step with ./run matrix",
        ),
    ],
)
def test_a_workflow_that_is_not_understood_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "nightly.yml"
    file.write_text(text)
    with pytest.raises(ContractError, match=told):
        jobs.load(file)
    with pytest.raises(ContractError, match="cannot read"):
        jobs.load(tmp_path / "none.yml")


def test_missing_records_are_found(write: Write, tmp_path: Path, make_record: Callable[..., Record]) -> None:
    known = jobs.load(write(modes="unprivileged, privileged"))
    cells = tmp_path / "cells"
    there = cells / "cell-kvm-unprivileged" / "cell"
    there.mkdir(parents=True)
    assert jobs.missing(known, cells) == known
    (there / "host-run.jsonl").write_text(make_record().model_dump_json(by_alias=True) + "\n")
    assert [job.mode for job in jobs.missing(known, cells)] == ["privileged"]
    # Another mode's records are not this one's.
    there.parent.rename(cells / "cell-kvm-privileged")
    assert jobs.missing(known, cells) == known


# ------------------------------------------------------------------------------------- the command

runner = CliRunner()


@pytest.fixture
def workflow(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    known = jobs.load(write(modes="privileged"))
    monkeypatch.setattr(jobs, "load", lambda: known)


@pytest.mark.usefixtures("workflow")
def test_jobs_are_listed() -> None:
    assert runner.invoke(main.app, ["jobs"]).stdout == (
        "cell-kvm-privileged: ./run matrix --mode privileged --results=cell (self-hosted, kvm; 60 minutes)\n"
    )
    (one,) = json.loads(runner.invoke(main.app, ["jobs", "--json"]).stdout)
    assert (one["mode"], one["runs_on"]) == ("privileged", ["self-hosted", "kvm"])


@pytest.mark.usefixtures("workflow")
def test_jobs_are_a_pipeline_of_gitlabs() -> None:
    pipeline = yaml.safe_load(runner.invoke(main.app, ["jobs", "--gitlab"]).stdout)
    job = pipeline["cell-kvm-privileged"]
    assert job["tags"] == ["kvm"]
    assert job["timeout"] == "60 minutes"
    assert job["script"] == ["./run matrix --mode privileged --results=cells/cell-kvm-privileged/cell"]
    assert job["artifacts"]["when"] == "always"
    assert pipeline["publish"]["script"] == [".ci/publish cells"]
    assert pipeline["publish"]["when"] == "always"


def test_gitlab_accepts_the_projects_own_pipeline(tmp_path: Path) -> None:
    known = jobs.load()
    file = tmp_path / "pipeline.yml"
    file.write_text(gitlab.pipeline(known))
    words = ["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", str(file)]
    done = subprocess.run([Path(sys.executable).parent / words[0], *words[1:]], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    pipeline = yaml.safe_load(file.read_text())
    assert {one.artefact for one in known} == set(pipeline) - {"stages", "variables", "publish"}
    # A job of a lab brings its system along; a runner with KVM is what its labels promise.
    assert [("image" in pipeline[one.artefact]) for one in known] == [one.host != "kvm" for one in known]


@pytest.mark.usefixtures("workflow", "quickly")
def test_jobs_are_checked() -> None:
    result = runner.invoke(main.app, ["jobs", "--check"])
    assert result.exit_code == status.FAILED
    assert "no job tests kvm in unprivileged on kvm" in result.stderr


@pytest.mark.usefixtures("workflow")
def test_jobs_without_records_fail_the_command(tmp_path: Path) -> None:
    result = runner.invoke(main.app, ["jobs", "--missing", str(tmp_path)])
    assert result.exit_code == status.FAILED
    assert result.stdout.startswith("cell-kvm-privileged: ")
