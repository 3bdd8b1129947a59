"""The nightly's jobs for GitLab: a child pipeline, made from the jobs that GitHub's workflow describes.

GitLab starts a pipeline that a job of another one wrote ("dynamic child pipelines" in its documentation), so that only
GitHub's workflow lists the jobs.
"""

import shlex
from collections.abc import Iterable
from typing import Any

import yaml

from conformance.ci.workflow import Job

IMAGE = "debian:12"
"""A Debian as ./run needs it; the runner has to be privileged, since the job starts an engine."""

CELLS = "cells"
"""Holds each job's records in a folder of its artefact's name, as ``.ci/publish`` expects it."""

CACHE = "$CI_BUILDS_DIR/conformance-cache"
"""Beside the clone, which is a volume: an engine's data cannot lie in the file system of a container."""

PUBLISH_MINUTES = 30

_SELF_HOSTED = "self-hosted"


def pipeline(jobs: Iterable[Job]) -> str:
    """Return the pipeline as YAML: the jobs side by side, and then, whatever their outcome, one that publishes."""
    tests = {one.artefact: _test(one) for one in jobs}
    head = {"stages": ["test", "publish"], "variables": {"CONFORMANCE_CACHE": CACHE}}
    return yaml.safe_dump({**head, **tests, "publish": _publishing()}, sort_keys=False)


def _test(job: Job) -> dict[str, Any]:
    where = {"tags": [one for one in job.runs_on if one != _SELF_HOSTED]} if _SELF_HOSTED in job.runs_on else {}
    folder = f"--results={CELLS}/{job.artefact}/"
    words = [word.replace("--results=", folder) for word in job.command]
    return {
        "stage": "test",
        **(where or {"image": IMAGE}),
        "timeout": f"{job.minutes} minutes",
        "script": [shlex.join(words)],
        "artifacts": {"name": job.artefact, "when": "always", "paths": [f"{CELLS}/", "artefacts/"]},
    }


def _publishing() -> dict[str, Any]:
    return {
        "stage": "publish",
        "image": IMAGE,
        "when": "always",
        "timeout": f"{PUBLISH_MINUTES} minutes",
        "before_script": ["apt-get update -qq", "apt-get install -y -qq --no-install-recommends git ca-certificates"],
        "script": [f".ci/publish {CELLS}"],
        "artifacts": {"name": "report", "when": "always", "paths": ["report.html"]},
    }
