"""Cost of the matrix as users run it: whole, in small, as a smoke run, and with two modes side by side."""

import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from conformance.bench.result import Measurement
from conformance.bench.stopwatch import timed
from conformance.bench.targets import MODE
from conformance.errors import HarnessError
from conformance.model import record
from conformance.model.verdict import Verdict
from conformance.util import paths

MATRIX_SECONDS = 1800
"""Deadline of one run of the matrix."""

SMALL = ("-m", "api")
"""pytest's options of a small matrix."""

BESIDE = ("-m", "defaults or virtio_disk or virtio_net", "--mode", MODE, "--mode", "least")
"""pytest's options of two modes that every engine grants, with features that mostly run guests."""

END_SECONDS = 120
"""Deadline for the clean-up of an interrupted command."""


def matrices_cost(folder: Path, progress: Callable[[str], None], whole: int, repeat: int) -> list[Measurement]:
    """Run the matrix through ``./run``: whole, and in small for the time until its first container."""
    accounts: list[dict[str, Any]] = []
    for number in range(whole):
        progress(f"whole matrix {number + 1} of {whole}, mode {MODE}; this takes minutes")
        accounts.append(matrix(folder / f"whole-{number}", []))
    firsts = [account["first"] for account in accounts]
    for number in range(whole, repeat):
        progress(f"matrix in small {number + 1} of {repeat}")
        firsts.append(matrix(folder / f"small-{number}", SMALL)["first"])
    measurements = [
        Measurement(
            id="first-container",
            values=[first["seconds"] for first in firsts],
            detail={"seconds": [first["by_kind"] for first in firsts]},
        )
    ]
    if accounts:
        measurements += [
            Measurement(id="matrix-rest", values=[one["share"] for one in accounts], detail={"runs": accounts}),
            Measurement(id="domains-per-feature", values=[one["domains_per_feature"] for one in accounts]),
            Measurement(id="memory", values=[one["memory_mb"] for one in accounts]),
        ]
    return measurements


def matrix(
    results: Path, options: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Run the matrix, and return its cost.

    Raises:
        HarnessError: the matrix did not finish.
    """
    results.mkdir()
    file, log = results / "account", results / "log"
    words = ["matrix", "--mode", MODE, "--results", str(results), *options]
    began = time.monotonic()
    command([*words, "-p", "conformance.bench.accounting", "--accounting", str(file)], log, MATRIX_SECONDS, environment)
    wall = time.monotonic() - began
    if not file.exists():
        raise HarnessError("the matrix did not finish", f"read the end of its output:\n{tail(log)}")
    account = json.loads(file.read_text(encoding="utf-8"))
    if account["first_container"] is None:
        raise HarnessError("the matrix started no container", f"read the end of its output:\n{tail(log)}")
    return cost(account, began, wall, list(record.read(results)))


def smoke(folder: Path, progress: Callable[[str], None], count: int) -> Measurement:
    """Time smoke runs.

    Raises:
        HarnessError: one of them did not pass.
    """
    seconds: list[float] = []
    for number in range(count):
        progress(f"smoke run {number + 1} of {count}")
        log = folder / f"smoke-{number}.log"
        with timed(seconds):
            status = command(["smoke"], log, MATRIX_SECONDS, {})
        if status != 0:
            raise HarnessError(f"the smoke run failed (status {status})", f"read the end of its output:\n{tail(log)}")
    return Measurement(id="smoke", values=seconds)


def side_by_side(folder: Path, progress: Callable[[str], None], count: int) -> Measurement:
    """Test two modes one after the other and side by side, in turns, so that other load affects both.

    Raises:
        HarnessError: a matrix did not finish, or the verdicts differ.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(count):
        said = []
        for how, words in {"one after the other": (), "side by side": ("-n", "2")}.items():
            progress(f"two modes {how}, {number + 1} of {count}; this takes minutes")
            results = folder / f"{how}-{number}"
            log = folder / f"{how}-{number}.log"
            with timed(seconds[how]):
                status = command(["matrix", *BESIDE, *words, f"--results={results}"], log, MATRIX_SECONDS, {})
            if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                raise HarnessError(
                    f"two modes {how} did not finish (status {status})", f"read the end of the output:\n{tail(log)}"
                )
            said.append({(one.mode, one.check): str(one.verdict) for one in record.read(results)})
        if said[0] != said[1]:
            differ = sorted(set(said[0].items()) ^ set(said[1].items()))
            raise HarnessError(f"two modes side by side have other verdicts than one after the other: {differ}")
    one, other = seconds.values()
    ratios = [round(beside / apart, 3) for apart, beside in zip(one, other, strict=True)]
    return Measurement(id="side-by-side", values=ratios, detail={"seconds": seconds, "options": BESIDE})


def command(words: Sequence[str], log: Path, seconds: float, environment: Mapping[str, str]) -> int:
    """Run a command of ``./run``, and return its exit status.

    Raises:
        HarnessError: the command did not end in time.
    """
    with log.open("wb") as output:
        # A session of its own: this process passes on ctrl-C, once, and waits.
        process = subprocess.Popen(
            [paths.PROJECT / "run", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(END_SECONDS)
            if isinstance(error, subprocess.TimeoutExpired):
                raise HarnessError(f"./run {words[0]} took more than {seconds:g} s", tail(log)) from error
            raise


def tail(log: Path) -> str:
    """Return the end of a command's output."""
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def cost(account: dict[str, Any], began: float, wall: float, records: Sequence[record.Record]) -> dict[str, Any]:
    """Return the cost of a run of the matrix.

    Args:
        account: the account of :mod:`conformance.bench.accounting`.
        began: the start of the command, on the monotonic clock.
        wall: the duration of the command, in seconds.
        records: its records.
    """
    kinds = {kind: seconds for kind, seconds in account["seconds"].items() if kind != "rest"}
    # Time outside of the account counts as the harness's: the interpreter's start, and ./run itself.
    rest = wall - sum(kinds.values())
    before = {"start-up": account["began"] - began, **account["before_first"]}
    asked = _asked(records)
    starts = sum(account["domains"].values())
    return {
        "wall": round(wall, 2),
        "seconds": _rounded(kinds | {"rest": rest}),
        "rest": _rounded({"start-up": account["began"] - began, **_largest(account["rest"])}),
        "share": round(100 * rest / wall, 1),
        "first": {"seconds": round(account["first_container"] - began, 2), "by_kind": _rounded(before)},
        "domains": account["domains"],
        "domain_starts": starts,
        "features": asked,
        "domains_per_feature": round(starts / max(asked, 1), 2),
        "cpu_seconds": round(account["cpu_seconds"], 1),
        "memory_mb": round(account["memory_mb"], 1),
        "verdicts": {str(verdict): sum(one.verdict is verdict for one in records) for verdict in Verdict},
    }


def _asked(records: Sequence[record.Record]) -> int:
    """Count the features with a verdict; those that the host cannot test do not count."""
    return len({one.feature for one in records if one.verdict.decided})


def _largest(seconds: dict[str, float], count: int = 8) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:count])


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}
