"""The targets of the benchmark, and the mode that it measures."""

from typing import Literal

from conformance.bench.result import Data
from conformance.guests.probe_client import BOOT_SECONDS

MODE = "unprivileged"
"""The mode that is measured: the documented one that every engine grants."""


class Target(Data):
    """The limit of a measurement.

    Attributes:
        id: the measurement's id.
        what: its description.
        most: the limit.
        unit: the unit of limit and values.
        count: the required number of values.
        why: the reason if the target is missed, written by hand.
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
        id="smoke",
        what="`./run smoke` with image and media in place: command to its end",
        most=60,
        unit="s",
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
