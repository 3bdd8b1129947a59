"""The nightly's last job, in a clone of its own with a ./run and a gh that only say what they were told."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.util import paths

RUN = """#!/bin/sh
echo "run $*" >>"$TOLD"
case "$1" in
    jobs) [ -z "$LOST" ] || { echo "$LOST"; exit "${STATUS:-1}"; } ;;
    merge) shift 2; into="$1"; shift; cp --target-directory="$into" "$@" ;;
    report) echo report >report.html ;;
    tables)
        if [ "$2" = --readme ]; then echo "the table of $(ls "$5" | grep -c jsonl) files" >"$3"
        else sed -i "$EDIT" README.md; fi ;;
esac
"""
GH = """#!/bin/sh
echo "gh $1 $2" >>"$TOLD"
[ "$2" != list ] || echo "$OPEN"
"""


@dataclass
class Published:
    """What came of it."""

    status: int
    output: str
    summary: str
    told: list[str]
    pushed: list[str]


class Clone:
    """A clone of a repository that has a README, results and the script."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._git("init", "--quiet", "--bare", str(folder / "origin"), cwd=folder)
        self._git("clone", "--quiet", str(folder / "origin"), str(folder / "clone"), cwd=folder)
        self.path = folder / "clone"
        for file, text in (("run", RUN), ("../bin/gh", GH)):
            (self.path / file).parent.mkdir(exist_ok=True)
            (self.path / file).write_text(text)
            (self.path / file).chmod(0o755)
        (self.path / ".ci").mkdir()
        shutil.copy(paths.PROJECT / ".ci" / "publish", self.path / ".ci")
        (self.path / "results").mkdir()
        (self.path / "results" / "old.jsonl").write_text("{}\n")
        (self.path / "README.md").write_text("Recorded 2026-01-01\nkvm works\n")
        self._git("add", ".")
        self._git("-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", "first")
        self.cells = folder / "cells"
        (self.cells / "cell-kvm-privileged" / "cell").mkdir(parents=True)
        (self.cells / "cell-kvm-privileged" / "cell" / "new.jsonl").write_text("{}\n")

    def _git(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *words], cwd=cwd or self.path, capture_output=True, text=True, check=True)
        return done.stdout

    def configure(self, key: str, value: str) -> None:
        self._git("config", key, value, cwd=self._folder / "origin")

    def publish(self, **environment: str) -> Published:
        told, summary = self._folder / "told", self._folder / "summary"
        given = {"EDIT": "", "OPEN": "0", "LOST": "", "TOLD": str(told), "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run(
            [".ci/publish", str(self.cells)],
            cwd=self.path,
            env=os.environ | {"PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}"} | given | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        branches = self._git("ls-remote", "--heads", "origin").split()[1::2]
        pushed = self._git("show", "--name-only", "--format=", "nightly-tables").split() if branches else []
        read = [file.read_text() if file.exists() else "" for file in (summary, told)]
        return Published(done.returncode, done.stdout, read[0], read[1].splitlines(), sorted(pushed))


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    (tmp_path / "bin").mkdir()
    return Clone(tmp_path)


def test_tables_that_changed_become_a_pull_request_with_the_records(clone: Clone) -> None:
    published = clone.publish(EDIT="s/works/fails/")
    assert published.status == 0, published.output
    assert published.pushed == ["README.md", "results/new.jsonl"]
    assert published.told[-2:] == ["gh pr list", "gh pr create"]
    assert published.summary == "the table of 1 files\n"
    assert (clone.path / "report.html").exists()


def test_an_open_pull_request_is_renewed(clone: Clone) -> None:
    clone.publish(EDIT="s/works/fails/")
    published = clone.publish(EDIT="s/fails/unsupported/", OPEN="1")
    assert published.status == 0, published.output
    assert published.told[-1] == "gh pr list"
    assert published.pushed


def test_on_gitlab_it_becomes_a_merge_request_by_pushing(clone: Clone, tmp_path: Path) -> None:
    """GitLab makes the request itself, of options that a push carries."""
    (tmp_path / "project.git").symlink_to("origin")
    hook = tmp_path / "origin" / "hooks" / "pre-receive"
    hook.write_text('#!/bin/sh\necho "push $GIT_PUSH_OPTION_0, $GIT_PUSH_OPTION_1" >>"$TOLD"\n')
    hook.chmod(0o755)
    clone.configure("receive.advertisePushOptions", "true")
    gitlab = {"GITLAB_CI": "true", "CI_SERVER_PROTOCOL": "https", "CI_SERVER_HOST": "git.example"}
    gitlab |= {"CI_PROJECT_PATH": "project", "PUSH_TOKEN": "secret"}
    # Git looks up what the address stands for.
    gitlab |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{tmp_path}/.insteadOf"}
    gitlab |= {"GIT_CONFIG_VALUE_0": "https://nightly:secret@git.example/"}
    published = clone.publish(EDIT="s/works/fails/", GITHUB_STEP_SUMMARY="/dev/stdout", **gitlab)
    assert published.status == 0, published.output
    assert published.pushed == ["README.md", "results/new.jsonl"]
    assert published.told[-1].startswith("push merge_request.create, merge_request.title=The tables")
    assert "the table of 1 files" in published.output
    assert "secret" not in published.output

    without = clone.publish(EDIT="s/fails/unsupported/", **(gitlab | {"PUSH_TOKEN": ""}))
    assert without.status != 0
    assert "PUSH_TOKEN: is to be a project access token that may write" in without.output


@pytest.mark.parametrize("edit", ["", "s/2026-01-01/2026-01-02/"])
def test_another_day_alone_is_no_news(clone: Clone, edit: str) -> None:
    published = clone.publish(EDIT=edit)
    assert published.status == 0, published.output
    assert published.pushed == []
    assert not [line for line in published.told if line.startswith("gh")]


def test_missing_records_are_an_error_and_the_others_are_published(clone: Clone) -> None:
    published = clone.publish(EDIT="s/works/fails/", LOST="cell-kvm-unprivileged: ./run matrix")
    assert published.status == 1
    assert "::error::no records came from cell-kvm-unprivileged" in published.output
    assert published.summary.startswith("**error**: no records came from\n\n- cell-kvm-unprivileged: ./run matrix\n")
    assert published.pushed == ["README.md", "results/new.jsonl"]


def test_without_any_record_nothing_is_published(clone: Clone) -> None:
    shutil.rmtree(clone.cells / "cell-kvm-privileged")
    published = clone.publish(LOST="cell-kvm-privileged: ./run matrix")
    assert published.status == 1
    assert published.pushed == []


def test_a_check_that_breaks_is_not_taken_for_an_answer(clone: Clone) -> None:
    published = clone.publish(LOST="error: nightly.yml is not YAML", STATUS="2")
    assert published.status == 2
    assert published.summary == ""
