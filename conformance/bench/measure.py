"""What it costs: measured beside targets, recorded with its machine, rendered into docs/performance.md.

Nothing here is a test: a slow machine is no failure. Other work on the same machine makes every number worse, so
the load is recorded too.
"""

import contextlib
import io
import json
import os
import secrets
import signal
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import libvirt
import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.bench import lab_boots as boots
from conformance.bench import lab_cost
from conformance.container.container import Container
from conformance.errors import HarnessError
from conformance.guests import guest
from conformance.guests.factory import POOL, Guests
from conformance.guests.guest import BOOT_SECONDS, MEMORY_MIB, Accel, GuestSpec
from conformance.guests.peer_network import PeerNetwork
from conformance.lab import definition
from conformance.media.probe import CMDLINE, Probe
from conformance.media.probe_report import Report
from conformance.model import contract, mode, record
from conformance.model.verdict import Verdict
from conformance.privileges import claims, configuration
from conformance.privileges.search import starts_apart
from conformance.report import markdown
from conformance.run.context import Run, prepare
from conformance.util import paths

Part = Literal["engine", "parallel", "lab", "extra"]
"""What concerns the engine, sessions side by side, or the lab, or nothing but what is asked for beside them."""

MODE = "unprivileged"
"""The mode that is measured: the documented one that every engine grants."""

ORDERS = {"ask": "disk"}
"""What the measured guest is asked beside its nonce: enough to need a device and libvirt's storage."""

MATRIX_SECONDS = 1800
"""Deadline of one run of the matrix."""

BUILD_SECONDS = 3600
"""Deadline of a lab's first build."""

LAB_STARTS = 3
"""How often a lab is started at most; each takes ten seconds."""

SMALL = ("-m", "api")
"""A matrix in small, as pytest's options."""

BESIDE = ("-m", "defaults or virtio_disk or virtio_net", "--mode", MODE, "--mode", "least")
"""Two modes that every engine grants, and so much of each that guests are most of it, as pytest's options."""

END_SECONDS = 120
"""What an interrupted command has to clean up."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Target(_Data):
    """What something may cost.

    Attributes:
        id: of its measurement.
        what: what is measured, for the reader.
        most: the target.
        unit: of target and values.
        count: how many values it takes; fewer do not meet it.
        why: why it is missed where it was, written by hand.
    """

    id: str
    what: str
    most: float
    unit: Literal["s", "ratio", "%", "MB", "GB"]
    count: int = 1
    why: str = ""


TARGETS = (
    Target(id="container-start", what="Container start to libvirt answering", most=1.5, unit="s"),
    Target(
        id="domain-start",
        what="Domain start: API call to running",
        most=0.5,
        unit="s",
        why="an idle machine of two cores takes 0.45 to 0.5 s, of which QEMU's own start is 0.1 s and the rest"
        " libvirt's control groups and questions to QEMU's monitor; the first domain of a container takes 1.3 s",
    ),
    Target(
        id="probe-ratio",
        what="Probe through libvirt beside bare QEMU: domain start to complete evidence",
        most=1.25,
        unit="ratio",
    ),
    Target(
        id="matrix-rest",
        what="Whole matrix: wall time that is neither guest, container, engine nor build",
        most=10,
        unit="%",
    ),
    Target(
        id="first-container",
        what="Second `./run matrix`: command to first container",
        most=5,
        unit="s",
    ),
    Target(
        id="domains-per-feature",
        what="Domain starts beside features asked, in one mode",
        most=0.5,
        unit="ratio",
        why="what is asked is often a start itself: by each firmware, from each medium, after each end of a container,"
        " a second time with what it kept; a third of the starts are of domains without a guest system in"
        " them, which the life of a definition needs and which take half a second each",
    ),
    Target(
        id="side-by-side",
        what="Two modes side by side (`-n 2`) beside one after the other: wall time",
        most=0.75,
        unit="ratio",
    ),
    Target(id="memory", what="Memory of the harness at its peak", most=150, unit="MB"),
    Target(id="lab-start", what="Lab: later start to an engine that answers", most=15, unit="s"),
    Target(id="lab-cold", what="Lab: start without a saved state", most=60, unit="s"),
    Target(id="lab-build", what="Lab: first build, QEMU included", most=480, unit="s"),
    Target(id="lab-disk", what="Lab: disk for one host, QEMU included, downloads not", most=3, unit="GB"),
    Target(id="lab-memory", what="Lab: memory of its QEMU at its peak, after a matrix in small", most=6, unit="GB"),
    Target(id="lab-idle", what="Lab: processor of the machine outside while the lab is idle", most=10, unit="%"),
    Target(
        id="lab-boots",
        what="Lab: a guest's boot from an ISO under its KVM, by BIOS, UEFI and Secure Boot in turn, none failing",
        most=BOOT_SECONDS,
        unit="s",
        count=50,
    ),
    Target(
        id="privilege-starts",
        what=f"`conformance privileges --mode {MODE}`: starts beside those of each feature by itself, as recorded",
        most=33.3,
        unit="%",
    ),
)


class Measurement(_Data):
    """One thing that was measured, several times where it is cheap.

    Attributes:
        id: what; a target's, or something that explains one.
        values: one of each repetition, in the order they were taken.
        detail: what the values are made of.
    """

    id: str
    values: list[float] = Field(min_length=1)
    detail: dict[str, Any] = Field(default_factory=dict)

    @property
    def median(self) -> float:
        """Return the value in the middle."""
        return statistics.median(self.values)


class Result(_Data):
    """One run of the benchmark.

    Attributes:
        run: its id, which sorts by time.
        load: the machine's load averages over 1, 5 and 15 minutes before it began.
        accel: how the guests ran.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    run: str
    time: datetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    host: record.Host
    image: record.Image
    load: tuple[float, float, float]
    accel: Accel
    measurements: tuple[Measurement, ...]

    def of(self, measured: str) -> Measurement | None:
        """Return a measurement, or None where it was not taken."""
        return next((one for one in self.measurements if one.id == measured), None)

    def write(self, folder: Path) -> Path:
        """Write the result into a file of its own, and return that.

        Raises:
            HarnessError: it cannot be written.
        """
        file = folder / f"{self.host.name}-{self.run}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            with contextlib.suppress(OSError):
                file.unlink()
            raise HarnessError(f"cannot write {file}: {error.strerror}", "make room, and run it again") from error
        return file


def read(folder: Path) -> list[Result]:
    """Return all results of a folder, the newest first.

    Raises:
        HarnessError: a file is no result.
    """
    return sorted(map(_read, folder.glob("*.json")), key=lambda result: result.run, reverse=True)


def _read(file: Path) -> Result:
    try:
        return Result.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise HarnessError(
            f"{file.name} is not a result of the benchmark: {error}", "remove it, and measure again"
        ) from error


# -------------------------------------------------------------------------------------- measuring


def measure(
    progress: Callable[[str], None],
    *,
    repeat: int,
    matrices: int,
    host_name: str | None = None,
    only: Part | None = None,
    lab_build: bool = False,
    lab_boots: int = 0,
) -> Result:
    """Measure everything on an engine, and a lab; nothing is left of it, however this ends.

    Args:
        progress: told what is being measured.
        repeat: how often to repeat what is short.
        matrices: how often to run the whole matrix of :data:`MODE`, and two modes side by side.
        host_name: what the result calls this host; made from its engine if not given.
        only: measure only this part.
        lab_build: measure a lab's first build as well; minutes.
        lab_boots: boot so many guests in a row under a lab's KVM as well; half a minute each.

    Raises:
        HarnessError: the engine or the machine cannot run it.
        ImageFailure: the image cannot do what is measured.
    """
    load = os.getloadavg()
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="conformance-bench-") as folder:
        run = prepare(contract.load(), progress, tag=None, choice="auto", results=Path(folder), host_name=host_name)
        try:
            progress("waiting for the host's KVM to boot a kernel, so that nothing else runs meanwhile")
            accel: Accel = "kvm" if run.kvm.usable else "tcg"
            if only in (None, "engine"):
                measurements, accel = _containers(run, progress, repeat)
        finally:
            run.close()
        if only in (None, "engine"):
            measurements += _matrices(Path(folder), progress, matrices, repeat)
        if only in (None, "parallel") and matrices:
            measurements.append(_side_by_side(Path(folder), progress, matrices))
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
        _matrix(folder / "lab", SMALL, {"DOCKER_HOST": address})

    cost = lab_cost.measure(host, progress, repeat=repeat, use=use)
    return [
        Measurement(id="lab-start", values=cost.starts, detail={"host": host.name, "outer": cost.accel}),
        Measurement(id="lab-cold", values=[cost.cold]),
        Measurement(id="lab-disk", values=[cost.disk]),
        Measurement(id="lab-memory", values=[cost.memory]),
        Measurement(id="lab-idle", values=[cost.idle]),
    ]


def _lab_build(folder: Path, progress: Callable[[str], None]) -> Measurement:
    """Build a lab in a cache of its own, with the downloads of the present one."""
    progress("lab: first build; this takes minutes")
    cache = paths.cache()
    log = folder / "lab-build.log"
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-", dir=cache) as fresh:
        for kept in ("downloads", "media"):
            (Path(fresh) / kept).symlink_to(cache / kept)
        with _timed(seconds):
            status = _command(["lab", "rebuild"], log, BUILD_SECONDS, environment={"CONFORMANCE_CACHE": fresh})
    if status != 0:
        raise HarnessError("the lab could not be built", f"look at what was written:\n{_tail(log)}")
    return Measurement(id="lab-build", values=seconds)


def _lab_boots(folder: Path, progress: Callable[[str], None], count: int) -> Measurement:
    """Boot guests in a row under a lab's KVM; one that does not come through is an error."""
    host = definition.load()
    seconds = boots.measure(host, progress, count=count, results=folder)
    detail = {"host": host.name, "mode": boots.MODE, "turns": boots.FIRMWARE}
    return Measurement(id="lab-boots", values=seconds, detail=detail)


def privilege_starts(recorded: Sequence[configuration.Configuration]) -> list[Measurement]:
    """Count the starts of a finished search in :data:`MODE`, beside those that it takes without sharing any.

    Of several, on whatever host, it is the one that asked the most features: the time of a start is not counted here.
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


def _containers(run: Run, progress: Callable[[str], None], repeat: int) -> tuple[list[Measurement], Accel]:
    """Start containers; in the last one, start domains."""
    seconds: list[float] = []
    container = run.container(mode.from_contract(run.contract, MODE), network="default")
    try:
        for number in range(repeat):
            progress(f"container start {number + 1} of {repeat}")
            container.stop()
            container.remove()
            with _timed(seconds):
                container.start()
                container.wait_until_ready()
        accel = run.accel_in(container)
        shape = _shape(run, container, accel, progress)
        return [
            Measurement(id="container-start", values=seconds),
            _domain_start(container, shape, progress, repeat),
            *_probe(container, shape, progress, repeat),
        ], accel
    finally:
        container.stop()
        container.remove()


@contextlib.contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    """Append how long this lasted."""
    began = time.monotonic()
    yield
    seconds.append(round(time.monotonic() - began, 6))  # never 0, which is divided by


def _shape(run: Run, container: Container, accel: Accel, progress: Callable[[str], None]) -> GuestSpec:
    """Put kernel and initramfs into a container, and return the measured guest's shape."""
    container.client.api.put_archive(container.id, "/var/lib/libvirt", _archive(run.probe))
    guests = Guests(container, run.probe, PeerNetwork(run.engine.client, run.probe, run.id), accel, progress)
    kernel = "/var/lib/libvirt/bench-vmlinuz"
    return GuestSpec("bios", accel, POOL, kernel=kernel, initrd="/var/lib/libvirt/bench-initrd", disk=guests.new_disk())


def _archive(probe: Probe) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(probe.kernel, "bench-vmlinuz")
        archive.add(probe.initrd, "bench-initrd")
    return buffer.getvalue()


def _domain_start(container: Container, shape: GuestSpec, progress: Callable[[str], None], repeat: int) -> Measurement:
    seconds: list[float] = []
    for number in range(repeat):
        progress(f"domain start {number + 1} of {repeat}")
        xml = guest.domain_xml(f"bench-{number}", shape, "", ORDERS)
        with _timed(seconds):
            domain = container.connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
            state, _ = domain.state()
        domain.destroy()
        if state != libvirt.VIR_DOMAIN_RUNNING:
            raise HarnessError(f"a domain that was started is in state {state}, not running")
    return Measurement(id="domain-start", values=seconds)


def _probe(container: Container, shape: GuestSpec, progress: Callable[[str], None], repeat: int) -> list[Measurement]:
    """Boot the same guest by libvirt and by bare QEMU, taking turns, so that the machine's moods hit both."""
    seconds: dict[str, list[float]] = defaultdict(list)
    inside: dict[str, list[float]] = defaultdict(list)
    for number in range(repeat):
        progress(f"probe {number + 1} of {repeat}: through libvirt")
        with _timed(seconds["libvirt"]):
            report = guest.boot(container, shape, ORDERS).report
        inside["libvirt"].append(_uptime(report))
        progress(f"probe {number + 1} of {repeat}: bare QEMU")
        nonce = secrets.token_hex(8)
        with _timed(seconds["bare"]):
            done = container.run(*bare_qemu(shape, {"nonce": nonce, **ORDERS}), seconds=BOOT_SECONDS)
        report = Report(done.text, nonce)
        if not report.complete:
            raise HarnessError(f"the probe under bare QEMU did not finish its report:\n{done.text}\n{done.stderr!r}")
        inside["bare"].append(_uptime(report))
    ratios = [round(one / other, 3) for one, other in zip(seconds["libvirt"], seconds["bare"], strict=True)]
    return [
        Measurement(id="probe-ratio", values=ratios),
        *(Measurement(id=f"probe-{how}", values=seconds[how], detail={"uptime": inside[how]}) for how in seconds),
    ]


def _uptime(report: Report) -> float:
    """Return how long the guest's kernel had run when it finished its report, in seconds."""
    return float(report["end"]["uptime"])


def bare_qemu(shape: GuestSpec, orders: dict[str, str]) -> list[str]:
    """Return the words that start the same guest without libvirt.

    CPU model, memory, machine, accelerator, disk cache and orders are those of :func:`guest.domain_xml`; where
    that leaves the CPU to libvirt, libvirt takes QEMU's own default, as this does.
    """
    oem_strings = ",".join(f"value=probe.{key}={value}" for key, value in orders.items())
    drive = f"file=/var/lib/libvirt/images/{POOL}/{shape.disk},if=none,id=disk,format=raw,cache=none,discard=unmap"
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", shape.accel),
        *(("-cpu", "host,migratable=off") if shape.accel == "kvm" else ()),
        *("-m", str(MEMORY_MIB), "-smp", "1", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"),
        *("-kernel", shape.kernel, "-initrd", shape.initrd, "-append", CMDLINE),
        *("-smbios", f"type=11,{oem_strings}", "-drive", drive, "-device", "virtio-blk-pci,drive=disk"),
    ]


def _matrices(folder: Path, progress: Callable[[str], None], whole: int, repeat: int) -> list[Measurement]:
    """Run the matrix through ``./run``: as a whole, and in small for what happens before its first container."""
    accounts: list[dict[str, Any]] = []
    for number in range(whole):
        progress(f"whole matrix {number + 1} of {whole}, mode {MODE}; this takes minutes")
        accounts.append(_matrix(folder / f"whole-{number}", []))
    firsts = [account["first"] for account in accounts]
    for number in range(whole, repeat):
        progress(f"matrix in small {number + 1} of {repeat}")
        firsts.append(_matrix(folder / f"small-{number}", SMALL)["first"])
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


def _matrix(
    results: Path, options: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Run the matrix, and return what it cost.

    Raises:
        HarnessError: it did not get to its end.
    """
    results.mkdir()
    file, log = results / "account", results / "log"
    words = ["matrix", "--mode", MODE, "--results", str(results), *options]
    began = time.monotonic()
    _command(
        [*words, "-p", "conformance.bench.accounting", "--accounting", str(file)], log, MATRIX_SECONDS, environment
    )
    wall = time.monotonic() - began
    if not file.exists():
        raise HarnessError("the matrix did not get to its end", f"look at what it wrote:\n{_tail(log)}")
    account = json.loads(file.read_text(encoding="utf-8"))
    if account["first_container"] is None:
        raise HarnessError("the matrix started no container", f"look at what it wrote:\n{_tail(log)}")
    return cost(account, began, wall, list(record.read(results)))


def _side_by_side(folder: Path, progress: Callable[[str], None], count: int) -> Measurement:
    """Ask two modes one after the other and side by side, taking turns, so that the machine's moods hit both.

    Raises:
        HarnessError: one did not get to its end, or they do not say the same.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(count):
        said = []
        for how, words in {"one after the other": (), "side by side": ("-n", "2")}.items():
            progress(f"two modes {how}, {number + 1} of {count}; this takes minutes")
            results = folder / f"{how}-{number}"
            log = folder / f"{how}-{number}.log"
            with _timed(seconds[how]):
                status = _command(["matrix", *BESIDE, *words, f"--results={results}"], log, MATRIX_SECONDS, {})
            if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                raise HarnessError(
                    f"two modes {how} did not get to their end", f"look at what was written:\n{_tail(log)}"
                )
            said.append({(one.mode, one.check): str(one.verdict) for one in record.read(results)})
        if said[0] != said[1]:
            differ = sorted(set(said[0].items()) ^ set(said[1].items()))
            raise HarnessError(f"side by side, two modes do not say what they say one after the other: {differ}")
    one, other = seconds.values()
    ratios = [round(beside / apart, 3) for apart, beside in zip(one, other, strict=True)]
    return Measurement(id="side-by-side", values=ratios, detail={"seconds": seconds, "options": BESIDE})


def _command(words: Sequence[str], log: Path, seconds: float, environment: Mapping[str, str]) -> int:
    """Give ``./run`` a command, and return its exit status.

    Raises:
        HarnessError: it did not end in time.
    """
    with log.open("wb") as output:
        # A session of its own: ctrl-C reaches it through this process, once, and it is waited for.
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
                raise HarnessError(f"./run {words[0]} took more than {seconds:g} s", _tail(log)) from error
            raise


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def cost(account: dict[str, Any], began: float, wall: float, records: Sequence[record.Record]) -> dict[str, Any]:
    """Return what a run of the matrix cost.

    Args:
        account: as :mod:`conformance.bench.accounting` wrote it.
        began: when the command was given, on the monotonic clock.
        wall: how long the command took, in seconds.
        records: what it recorded.
    """
    kinds = {kind: seconds for kind, seconds in account["seconds"].items() if kind != "rest"}
    # What was not seen is the harness's: getting the interpreter up, and ./run itself.
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
    """Count the features of which anything was decided: a host that cannot be asked has not been."""
    return len({one.feature for one in records if one.verdict.decided})


def _largest(seconds: dict[str, float], count: int = 8) -> dict[str, float]:
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:count])


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


# -------------------------------------------------------------------------------------- rendering


def render(text: str, results: Sequence[Result]) -> str:
    """Return a document with its block ``performance`` made anew."""
    return markdown.fill(text, {"performance": lambda: performance(results)})


def performance(results: Sequence[Result]) -> str:
    """Write what was measured last on the host of the newest result, beside its targets.

    Args:
        results: the newest first; what one did not measure, an earlier one of the same host has.
    """
    if not results:
        return "Nothing has been measured yet."
    same = [one for one in results if one.host.identity == results[0].host.identity]
    called = record.names(one.host for one in results)
    sources = {target.id: next((one for one in same if one.of(target.id)), None) for target in TARGETS}
    result = max(same, key=lambda one: list(sources.values()).count(one))  # what most of the rows are from
    rows = [_row(target, sources[target.id], result) for target in TARGETS]
    versions = markdown.literal(
        ", ".join(f"{name} {version}" for name, version in sorted(result.image.versions.items()))
    )
    guests = "under KVM" if result.accel == "kvm" else "under emulation (TCG)"
    return "\n".join(
        [
            f"**{markdown.literal(called[result.host.identity])}**:"
            f" {markdown.literal(markdown.fingerprint(result.host))}.  ",
            f"Measured {result.time.date().isoformat()} with `{result.image.tag}` ({versions}), mode `{MODE}`, guests"
            f" {guests}, {result.host.fingerprint['cpus']} CPUs, load {result.load[0]:.1f} before.",
            "",
            markdown.table(["What", "Median (min..max, n)", "Target", "Met"], rows),
        ]
    )


def _row(target: Target, source: Result | None, most: Result) -> list[str]:
    wanted = _amount(target.most, target.unit) + (f", {target.count} in a row" if target.count > 1 else "")
    measured = source.of(target.id) if source else None
    if source is None or measured is None:
        return [target.what, "not measured", wanted, ""]
    low, high = (f"{value:.3g}" for value in (min(measured.values), max(measured.values)))
    elsewhere = "" if source == most else f"; {source.time.date().isoformat()}, load {source.load[0]:.1f} before"
    shown = f"{_amount(measured.median, target.unit)} ({low}..{high}, {len(measured.values)}{elsewhere})"
    return [target.what, shown, wanted, verdict(target, measured)]


def verdict(target: Target, measured: Measurement) -> str:
    """Say whether a target is met, or missed by how much and why."""
    if (count := len(measured.values)) < target.count:
        return f"missed: {count} of {target.count}"
    if measured.median <= target.most:
        return "yes"
    by = _amount(measured.median - target.most, target.unit)
    return f"missed by {by}" + (f": {target.why}" if target.why else "")


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g}" + ("" if unit == "ratio" else f" {unit}")
