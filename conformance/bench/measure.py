"""The benchmark: measures the cost of image, harness and lab.

It is not a test: a slow machine is no failure. Other work on the machine makes every number worse, so results include
the load.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from conformance.bench import lab_boots as boots
from conformance.bench import lab_cost
from conformance.bench.container_cost import containers
from conformance.bench.matrix_cost import SMALL, command, matrices_cost, matrix, side_by_side, smoke, tail
from conformance.bench.result import Measurement, Result
from conformance.bench.stopwatch import timed
from conformance.bench.targets import MODE
from conformance.errors import HarnessError
from conformance.guests.spec import Accel
from conformance.lab import definition
from conformance.model import contract
from conformance.privileges import claims, configuration
from conformance.privileges.search import starts_apart
from conformance.run.preparation import prepare
from conformance.util import paths
from conformance.util.progress import Progress

Part = Literal["engine", "smoke", "parallel", "lab", "extra"]
"""A part of the benchmark: the engine, smoke runs, sessions side by side, the lab, or only the extra measurements."""

BUILD_SECONDS = 3600
"""Deadline of a lab's first build."""

SMOKE_RUNS = 3
"""The most smoke runs; each takes half a minute under emulation."""

LAB_STARTS = 3
"""The most starts of a lab; each takes ten seconds."""


def measure(
    progress: Progress,
    *,
    repeat: int,
    matrices: int,
    host_name: str | None = None,
    only: Part | None = None,
    lab_build: bool = False,
    lab_boots: int = 0,
) -> Result:
    """Measure the engine and a lab, and clean up in any case.

    Args:
        progress: gets each measurement.
        repeat: the number of repetitions of short measurements.
        matrices: the number of whole matrices of :data:`MODE`, and of two modes side by side.
        host_name: the host's name in the result; made from its engine by default.
        only: measure only this part.
        lab_build: measure a lab's first build too, which takes minutes.
        lab_boots: the number of guests to boot in a row under a lab's KVM; half a minute each.

    Raises:
        HarnessError: the engine or the machine cannot run it.
        ImageFailure: the image cannot do what is measured.
    """
    load = os.getloadavg()
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="conformance-bench-") as folder:
        run = prepare(contract.load(), progress, tag=None, choice="auto", results=Path(folder), host_name=host_name)
        try:
            progress("waiting for the boot under the host's KVM, before anything is measured")
            accel: Accel = "kvm" if run.kvm.usable else "tcg"
            if only in (None, "engine"):
                measurements, accel = containers(run, progress, repeat)
        finally:
            run.close()
        if only in (None, "engine"):
            measurements += matrices_cost(Path(folder), progress, matrices, repeat)
        if only in (None, "smoke"):
            measurements.append(smoke(Path(folder), progress, min(repeat, SMOKE_RUNS)))
        if only in (None, "parallel") and matrices:
            measurements.append(side_by_side(Path(folder), progress, matrices))
        if only in (None, "lab"):
            measurements += _lab(Path(folder), progress, min(repeat, LAB_STARTS))
        if lab_build:
            measurements.append(_lab_build(Path(folder), progress))
        if lab_boots:
            measurements.append(_lab_boots(Path(folder), progress, lab_boots))
        measurements += privilege_starts(configuration.read())
    return Result(run=run.id, host=run.host, image=run.image, load=load, accel=accel, measurements=tuple(measurements))


def _lab(folder: Path, progress: Callable[[str], None], repeat: int) -> list[Measurement]:
    """Start labs; in the last one, run the matrix in small."""
    host = definition.load()

    def use(address: str) -> None:
        matrix(folder / "lab", SMALL, {"DOCKER_HOST": address})

    cost = lab_cost.measure(host, progress, repeat=repeat, use=use)
    return [
        Measurement(id="lab-start", values=cost.starts, detail={"host": host.name, "outer": cost.accel}),
        Measurement(id="lab-cold", values=[cost.cold]),
        Measurement(id="lab-disk", values=[cost.disk]),
        Measurement(id="lab-memory", values=[cost.memory]),
        Measurement(id="lab-idle", values=[cost.idle]),
    ]


def _lab_build(folder: Path, progress: Callable[[str], None]) -> Measurement:
    """Build a lab in a new cache, with the present downloads."""
    progress("lab: first build; this takes minutes")
    cache = paths.cache()
    log = folder / "lab-build.log"
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-", dir=cache) as fresh:
        for kept in ("downloads", "media"):
            (Path(fresh) / kept).symlink_to(cache / kept)
        with timed(seconds):
            status = command(["lab", "rebuild"], log, BUILD_SECONDS, environment={"CONFORMANCE_CACHE": fresh})
    if status != 0:
        raise HarnessError("the lab could not be built", f"read the end of the output:\n{tail(log)}")
    return Measurement(id="lab-build", values=seconds)


def _lab_boots(folder: Path, progress: Progress, count: int) -> Measurement:
    """Boot guests in a row under a lab's KVM; a boot that fails is an error."""
    host = definition.load()
    seconds = boots.measure(host, progress, count=count, results=folder)
    detail = {"host": host.name, "mode": boots.MODE, "turns": boots.FIRMWARE}
    return Measurement(id="lab-boots", values=seconds, detail=detail)


def privilege_starts(recorded: Sequence[configuration.Configuration]) -> list[Measurement]:
    """Count the starts of a finished search in :data:`MODE`, and those of a separate search for each feature.

    Of several searches, on any host, the one with the most features counts.
    """
    measured = claims.measured(contract.load(), recorded)
    finished = [one for one in measured if one.mode == MODE and one.findings.complete]
    if not finished:
        return []
    most = max(finished, key=lambda one: len(one.search.features))
    starts, apart = most.findings.starts, starts_apart(most.search, most.findings)
    detail = {"host": most.host.name, "mode": most.mode, "features": len(most.search.features)}
    return [
        Measurement(
            id="privilege-starts",
            values=[round(100 * starts / apart, 1)],
            detail=detail | {"starts": starts, "starts apart": apart},
        )
    ]
