"""Account of wall time: a plugin for benchmarks, ``-p conformance.bench.accounting --accounting FILE``.

It samples the main thread's stack many times a second, and attributes the time to the calls on it. The harness needs no
stop-watches for this.
"""

import importlib._bootstrap
import inspect
import io
import json
import os
import re
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import docker
import docker.errors
import libvirt
import libvirt_qemu
import pytest

from conformance import media
from conformance.container import container, engine_container
from conformance.container.container import Container
from conformance.engine import image
from conformance.guests.console import SerialConsole
from conformance.guests.session import GuestSession
from conformance.host import kvm
from conformance.util import paths, process, wait

INTERVAL_SECONDS = 0.01

REST = "rest"
"""The harness itself, pytest and Python."""

Call = tuple[str, str]
"""A module's and a function's name."""


def call(function: Callable[..., Any]) -> Call:
    """Return the entry of a function on the stack."""
    plain = inspect.unwrap(function)
    return plain.__module__, plain.__name__


KINDS: tuple[tuple[str, ModuleType | Callable[..., Any]], ...] = (
    (REST, importlib._bootstrap),  # importing docker-py is not calling the engine
    ("build", image),
    ("build", media),
    ("guest", GuestSession.wait),
    ("guest", SerialConsole.drain),
    ("guest", kvm),
    ("guest", wait.wait_for),  # whoever waits outside the doors named here waits for a guest
    ("container", container),
    ("container", engine_container),
    ("container", libvirt),
    ("container", libvirt_qemu),
    ("engine", docker),
)
"""Kinds of time by the module or function on the stack. Objects, not names: an old name would silently count as
:data:`REST`."""

_MODULES = {on.__name__: kind for kind, on in KINDS if isinstance(on, ModuleType)}
_FUNCTIONS = {call(on): kind for kind, on in KINDS if not isinstance(on, ModuleType)}

FIRST_CONTAINER = call(Container.start)
"""On the stack while the first container of the image under test is started."""

OURS = (__name__.partition(".")[0], paths.SUITES.name, "test_")
"""Beginnings of the names of the project's modules."""

QEMU_LOGS = "/var/log/libvirt/qemu"

DOMAIN_START = re.compile(rb"^\S+ \S+ starting up libvirt version", re.MULTILINE)
"""The line in QEMU's log of a domain at each of its starts (libvirt's qemu_process.c)."""


@dataclass
class Account:
    """The account of one run.

    Attributes:
        began: the start of the account, in seconds on the monotonic clock, which all processes share.
        ended: its end, on the same clock.
        seconds: seconds by kind.
        rest: seconds of :data:`REST` by the project's innermost function.
        first_container: the start of the first container of the image, on the same clock.
        before_first: seconds by kind until then.
        domains: the number of starts of each domain, by its name, including those by libvirt itself.
        cpu_seconds: processor time of the process.
        memory_mb: peak resident memory of the process.
    """

    began: float = 0.0
    ended: float = 0.0
    seconds: Counter[str] = field(default_factory=Counter)
    rest: Counter[str] = field(default_factory=Counter)
    first_container: float | None = None
    before_first: dict[str, float] = field(default_factory=dict)
    domains: Counter[str] = field(default_factory=Counter)
    cpu_seconds: float = 0.0
    memory_mb: float = 0.0

    def add(self, stack: Sequence[Call], now: float, seconds: float) -> None:
        """Attribute an interval to the calls on a stack, outermost first."""
        if self.first_container is None and FIRST_CONTAINER in stack:
            self.first_container, self.before_first = now, dict(self.seconds)
        kind = kind_of(stack)
        self.seconds[kind] += seconds  # type: ignore[assignment]  # a Counter counts seconds as well
        if kind == REST:
            self.rest[_blame(stack)] += seconds  # type: ignore[assignment]


def kind_of(stack: Sequence[Call]) -> str:
    """Return the kind of a stack, outermost call first: the outermost call with a kind decides."""
    return next((kind for one in stack if (kind := _kind(one))), REST)


def _kind(one: Call) -> str | None:
    """Return the kind of one call: its function's, else that of its innermost package with a kind."""
    if one in _FUNCTIONS:
        return _FUNCTIONS[one]
    parts = one[0].split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((_MODULES[name] for name in names if name in _MODULES), None)


def _blame(stack: Sequence[Call]) -> str:
    ours = [one for one in stack if one[0].startswith(OURS)]
    module, function = (ours or stack)[-1] if stack else ("", "")
    return f"{module}.{function}"


def _calls(frame: FrameType | None) -> Iterator[Call]:
    while frame is not None:
        yield str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        frame = frame.f_back


class Sampler:
    """Accounts the main thread's time, from a thread of its own."""

    def __init__(self) -> None:
        self.account = Account()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="accounting", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.account.began = time.monotonic()
        self._thread.start()

    def stop(self) -> Account:
        """End, and return the account."""
        self._end.set()
        self._thread.join()
        self.account.ended = time.monotonic()
        self.account.cpu_seconds = time.process_time()
        self.account.memory_mb = process.peak_memory(os.getpid()) / 1e6
        return self.account

    def _look(self) -> None:
        main, before = threading.main_thread().ident or 0, self.account.began
        while not self._end.wait(INTERVAL_SECONDS):
            now = time.monotonic()
            stack = list(_calls(sys._current_frames().get(main)))[::-1]
            self.account.add(stack, now, now - before)
            before = now


# --------------------------------------------------------------------------------------- the plugin

SAMPLER = pytest.StashKey[Sampler]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--accounting", type=Path, metavar="FILE", help="write the account of the wall time into this file, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    sampler = config.stash[SAMPLER] = Sampler()
    _count_domains(sampler.account)
    sampler.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End, and write the account."""
    file: Path | None = config.getoption("accounting")
    account = config.stash[SAMPLER].stop()
    if file and not config.option.collectonly:
        file.write_text(json.dumps(vars(account)), encoding="utf-8")


def _count_domains(account: Account) -> None:
    remove = Container.remove

    def counted(container: Container) -> None:
        account.domains += domain_starts(container)
        remove(container)

    Container.remove = counted  # type: ignore[assignment, method-assign]


def domain_starts(container: Container) -> Counter[str]:
    """Count the starts of each domain on a container's volumes, including those by libvirt itself.

    The source is QEMU's logs in the volume, which outlive the container.

    Raises:
        docker.errors.DockerException: the engine refused.
    """
    if not container.id:
        return Counter()
    try:
        chunks, _ = container.client.api.get_archive(container.id, QEMU_LOGS)
    except docker.errors.NotFound:
        return Counter()
    return read_starts(b"".join(chunks))


def read_starts(archive: bytes) -> Counter[str]:
    """Count the starts of each domain in a tar of QEMU's logs, rotated ones included."""
    starts: Counter[str] = Counter()
    with tarfile.open(fileobj=io.BytesIO(archive)) as logs:
        for member in logs:
            named = re.fullmatch(r"(.+)\.log(\.\d+)?", Path(member.name).name)
            content = logs.extractfile(member)
            if named and content:
                starts[named[1]] += len(DOMAIN_START.findall(content.read()))
    return +starts
