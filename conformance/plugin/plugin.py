"""The pytest plugin: options, fixtures, and the way from an outcome to a verdict and a record.

It does nothing in a session without tests that carry a feature's marker.
"""

import argparse
import contextlib
import functools
import re
import sys
import time
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO, get_args

import libvirt
import pytest

from conformance.container.container import READY_SECONDS, Container
from conformance.engine import labels
from conformance.errors import (
    ContractError,
    EngineError,
    EngineGone,
    HarnessError,
    ImageFailure,
    MediaError,
    Unsupported,
)
from conformance.guests.factory import ONE_FOR_ALL, SHARED, Guests, Installation, Need, Part
from conformance.guests.guest import MEMORY_MIB, Firmware, Guest, GuestFailure, RunningGuest, Tuning
from conformance.guests.install_watch import Watch
from conformance.guests.peer_network import PeerNetwork
from conformance.host import network, network_leftovers, network_lock, pci
from conformance.host.pci import Device, PciPool
from conformance.installers import debian_mirror
from conformance.installers import user_iso as given_
from conformance.installers.user_iso import UserIso
from conformance.installers.windows import user_iso as windows_
from conformance.installers.windows.user_iso import Windows
from conformance.media import debian as debian_
from conformance.model import contract, requirements
from conformance.model import mode as modes_
from conformance.model.contract import Contract
from conformance.model.mode import Mode
from conformance.model.verdict import KnownFailure, Verdict, at_fault, blames_image, recognised
from conformance.report import terminal
from conformance.run import cleanup
from conformance.run.check import Check, digest
from conformance.run.context import Run, prepare
from conformance.util import paths, signals
from conformance.util.progress import Progress

if TYPE_CHECKING:
    from testinfra.host import Host as Inside

EXIT_NOTHING_DECIDED = 5
"""As pytest's own for a session without tests: nothing was decided."""

EXIT_CANNOT_RUN = 6
"""The machine or its engine cannot run anything; nothing was asked."""


class Boot(Protocol):
    """Boots a guest for some needs, or returns one that was asked for them already."""

    def __call__(self, *needs: Need, firmware: Firmware = "bios") -> Guest:
        """Return the guest; raises what :meth:`Guests.boot` raises."""
        ...


class Live(Protocol):
    """Gives a running guest that has what is needed."""

    def __call__(self, *needs: Part, beside: RunningGuest | None = None) -> RunningGuest:
        """Return the guest; raises what :meth:`Guests.running` raises."""
        ...


class PciGuest(Protocol):
    """Starts a guest that drives a PCI device of the host."""

    def __call__(self, device: Device) -> contextlib.AbstractContextManager[RunningGuest]:
        """Return the guest, which is there for as long as this lasts; raises what :meth:`Guests.pci_guest` raises."""
        ...


class Tuned(Protocol):
    """Starts a guest that is bound to parts of its host."""

    def __call__(self, tuning: Tuning) -> contextlib.AbstractContextManager[RunningGuest]:
        """Return the guest, which is there for as long as this lasts; raises what :meth:`Guests.tuned` raises."""
        ...


class Medium(Protocol):
    """Starts a guest with a screen from a medium."""

    def __call__(
        self, path: Path, *, firmware: Firmware, memory_mib: int = MEMORY_MIB
    ) -> contextlib.AbstractContextManager[RunningGuest]:
        """Return the guest, which is there for as long as this lasts; raises what :meth:`Guests.medium` raises."""
        ...


@dataclass(frozen=True)
class WorkerContext:
    """What a session asks of a run that another process leads; what ``--require`` names, that one looks at.

    Attributes:
        run: what records call the whole run.
        mode: of the chosen modes, the session's own.
        progress: where to say what is waited for, a line each.
    """

    run: str
    mode: str
    progress: TextIO


INSTALL = "install"
"""The marker of what takes long; -m names it, or the feature's own, where it is to be asked."""


class Install(Protocol):
    """Starts an installation."""

    def __call__(self, what: Installation, *, firmware: Firmware) -> contextlib.AbstractContextManager[Watch]:
        """Return what it is watched by, for as long as this lasts; raises what :meth:`Guests.installing` raises."""
        ...


QUESTION = pytest.StashKey[Check]()
RUN = pytest.StashKey[Run]()
PROGRESS = pytest.StashKey[Progress]()
MODES = pytest.StashKey[list[Mode]]()
GIVEN = pytest.StashKey[UserIso | None]()
WINDOWS = pytest.StashKey[Windows | None]()
REQUIRED = pytest.StashKey[requirements.Required]()
SELECTED = pytest.StashKey[bool]()
JUDGED = pytest.StashKey[Container]()
"""The newest container, whether it came up or not."""
GIVEN_RUN = pytest.StashKey[Run]()
"""A run that somebody else has prepared, and closes: several sessions then ask in it."""
ASSIGNMENT = pytest.StashKey[WorkerContext]()
"""Of a session that is only a part of a run."""

# ------------------------------------------------------------------------------------------ options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the matrix."""
    group = parser.getgroup("conformance", "libvirt in a container")
    group.addoption(
        "--mode", action="append", dest="modes", metavar="NAME", help="judge in this mode; repeatable (default: all)"
    )
    group.addoption(
        "--without",
        action="append",
        default=[],
        metavar="ID",
        help="take this away from the modes: an exposure, a default capability, what a switch turns off; repeatable",
    )
    group.addoption("--image", metavar="TAG", help="judge this image (default: build ours from image/)")
    group.addoption(
        "--accel",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="how guests run: under KVM, emulated, or KVM where it can run a real kernel (default)",
    )
    group.addoption(
        "--results",
        type=Path,
        default=paths.RESULTS,
        metavar="FOLDER",
        help="append the records here (default: results/)",
    )
    group.addoption(
        "--ready-seconds",
        type=float,
        default=READY_SECONDS,
        metavar="N",
        help=f"how long libvirt may take to answer after the container's start (default: {READY_SECONDS})",
    )
    group.addoption("--host-name", metavar="NAME", help="what records call this host (default: made from its engine)")
    group.addoption(
        "--host-fact",
        action="append",
        dest="host_facts",
        type=_fact,
        default=[],
        metavar="KEY=VALUE",
        help="what records say of this host beside what its engine tells; repeatable",
    )
    group.addoption(
        "--contract", type=Path, default=paths.CONTRACT, metavar="FILE", help="the claims (default: contract.toml)"
    )
    group.addoption(
        "--require",
        action="append",
        dest="required",
        default=[],
        metavar="NAME",
        help="fail where this is unsupported or not run: a feature, in each chosen mode; a mode; or the host's"
        f" {', '.join(requirements.ABILITIES)}; repeatable",
    )
    group.addoption(
        "--install-mirror",
        metavar="URL",
        help="where an installed Debian comes from, by HTTP and as containers reach it (default: apt's own mirror)",
    )
    group.addoption(
        "--windows-iso", type=Path, metavar="FILE", help="install Windows from this medium, where -m asks it"
    )
    group.addoption(
        "--virtio-win-iso", type=Path, metavar="FILE", help="Windows' VirtIO drivers, as virtio-win has them"
    )
    group.addoption(
        "--windows-edition",
        metavar="NAME",
        help="which edition of the medium: its number, name or identifier (default: Pro, or Standard with a desktop)",
    )
    group.addoption(
        "--windows-firmware",
        choices=get_args(Firmware),
        help="how Windows is booted; with Secure Boot there is a TPM as well (default: secure-boot)",
    )
    group.addoption("--windows-key", metavar="KEY", help="a product key, for a medium that does not install without")
    group.addoption("--iso", type=Path, metavar="FILE", help="boot a guest from this medium, too; with --iso-expect")
    group.addoption(
        "--iso-expect",
        metavar="REGEX",
        help="what the medium of --iso shows, on the serial console or on the screen",
    )
    group.addoption(
        "--iso-firmware", choices=get_args(Firmware), help="how the medium of --iso is booted (default: bios)"
    )
    group.addoption(
        "--macvtap-link",
        metavar="NAME",
        help="put a guest onto this link of the engine's host as well, behind which a DHCP server is",
    )
    group.addoption(
        "--pci-device",
        action="append",
        dest="pci_devices",
        type=_pci_address,
        default=[],
        metavar="ADDRESS",
        help="give guests this PCI device of the engine's host: a VirtIO network card behind which a DHCP server is, or"
        " an AHCI controller, whose disk is written to; repeatable",
    )


def _fact(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not KEY=VALUE")
    return key, value


def _pci_address(word: str) -> str:
    try:
        return pci.address(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@functools.cache
def _contract(path: Path) -> Contract:
    return contract.load(path)


def _has_claims(config: pytest.Config) -> bool:
    """Say whether there is a contract: not where the package was installed without it, for other people's sessions."""
    path = config.getoption("contract")
    asked = any(config.getoption(option) for option in ("modes", "image", "required"))
    return asked or path != paths.CONTRACT or path.exists()


def pytest_configure(config: pytest.Config) -> None:
    """Register one marker for each feature of the contract."""
    if not _has_claims(config):
        return
    _require_settings(config)
    try:
        claims = _contract(config.getoption("contract"))
    except ContractError as error:
        raise pytest.UsageError(str(error)) from error
    for feature in (*claims.features, *claims.unpromised):
        config.addinivalue_line("markers", f"{feature.marker}: {feature.claim}")
    config.addinivalue_line("markers", "host_network: asked only in modes that are in the host's network")
    config.addinivalue_line("markers", "profiled: asked only in modes with an AppArmor profile of this project")
    config.addinivalue_line("markers", "extras: asked only of images that have what ours has beside the features")
    config.addinivalue_line(
        "markers", "foreseen: asked only in modes of which the image knows that something will fail"
    )
    config.addinivalue_line("markers", "essential: of its feature, what conformance privileges asks")
    config.addinivalue_line("markers", "user_iso: asked only where --iso names a medium")
    config.addinivalue_line("markers", f"{INSTALL}: installs an operating system; asked only where -m names it")
    config.addinivalue_line("markers", "macvtap_link: asked only where --macvtap-link names a link")
    config.addinivalue_line(
        "markers", "ends(what): ends the running 'guest' or the 'container'; asked after those that go on with it"
    )
    part = config.stash.get(ASSIGNMENT, None)
    try:
        config.stash[GIVEN] = given_.given(*map(config.getoption, ("iso", "iso_expect", "iso_firmware")))
        config.stash[WINDOWS] = windows_.given(
            *map(
                config.getoption,
                ("windows_iso", "virtio_win_iso", "windows_edition", "windows_firmware", "windows_key"),
            )
        )
        config.stash[REQUIRED] = requirements.parse(claims, () if part else config.getoption("required"))
        wanted = config.getoption("modes") or [one.id for one in claims.modes]
        config.stash[MODES] = [
            modes_.from_contract(claims, mode_id, config.getoption("without"))
            for mode_id in dict.fromkeys(wanted)
            if part is None or mode_id == part.mode
        ]
    except (ContractError, MediaError) as error:
        raise pytest.UsageError(str(error)) from error


def _require_settings(config: pytest.Config) -> None:
    """Raise where pytest looked for its settings beside an option's file, and found none or another project's.

    It does so before it knows a plugin's options: to it, the FILE of ``--iso FILE`` is a place of tests.
    """
    here = config.invocation_params.dir
    found = config.inipath is not None and here.is_relative_to(config.inipath.parent)
    if found or config.getoption("inifilename"):
        return
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file():
            raise pytest.UsageError(
                f"pytest does not use {folder / 'pyproject.toml'}: it took an option's file for one of tests\n"
                "  what to do: put = before it, as in --iso=FILE or --results=FOLDER, or name the tests: pytest suites"
            )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let progress go where pytest's own goes, past the capturing of a test's output; a part's, where it is told."""
    quiet = session.config.getoption("verbose") < 0
    if part := session.config.stash.get(ASSIGNMENT, None):
        session.config.stash[PROGRESS] = Progress(part.progress, quiet=quiet)
        return
    plugins = session.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

    @contextlib.contextmanager
    def uncaptured(*, begins: bool) -> Iterator[None]:
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            if reporter and begins:
                reporter.ensure_newline()
            yield

    session.config.stash[PROGRESS] = Progress(
        reporter._tw._file if reporter else sys.stderr,
        quiet=quiet,
        around=uncaptured,
    )


# --------------------------------------------------------------------------------------- collection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each question in each chosen mode; each mode's container is started once."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "mode" not in metafunc.fixturenames or not marks & _features(metafunc.config):
        return
    chosen = [one for one in metafunc.config.stash[MODES] if _is_asked(metafunc.config, marks, one)]
    metafunc.parametrize("mode", chosen, ids=[one.id for one in chosen], indirect=True, scope="session")


def _features(config: pytest.Config) -> set[str]:
    """Return the markers of the contract's features; a test with none of them is not this project's."""
    if MODES not in config.stash:
        return set()
    claims = _contract(config.getoption("contract"))
    return {feature.marker for feature in (*claims.features, *claims.unpromised)}


def _is_asked(config: pytest.Config, marks: Collection[str], asked: Mode) -> bool:
    """Say whether a test with these marks is asked in a mode."""
    if "user_iso" in marks and config.stash[GIVEN] is None:
        return False
    if "macvtap_link" in marks and not config.getoption("macvtap_link"):
        return False
    if "profiled" in marks and not asked.profile:
        return False
    claims = _contract(config.getoption("contract"))
    if "extras" in marks and not claims.image.extras:
        return False
    if "foreseen" in marks and not claims.foreseen(asked.id):
        return False
    return "host_network" not in marks or asked.host_network


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Note what each test asks, and what the contract expects of it; then that everybody's selection succeeded."""
    if MODES not in config.stash:
        yield
        return
    _note_questions(config, items)
    yield
    # After pytest's own order, which takes a mode by its place in each test's list, and these lists differ.
    chosen = config.stash[MODES]
    items.sort(key=lambda item: (_index(chosen, _parameters(item).get("mode")), _ends(item)))
    config.stash[SELECTED] = True  # not where a marker in -m does not exist


def _note_questions(config: pytest.Config, items: list[pytest.Item]) -> None:
    claims = _contract(config.getoption("contract"))
    by_marker = {feature.marker: feature for feature in claims.features}
    unpromised = {feature.marker for feature in claims.unpromised}
    # A question that is asked in none of the chosen modes has no mode.
    pointless = [
        item
        for item in items
        if (marks := {mark.name for mark in item.iter_markers()} & _features(config))
        and (
            not isinstance(_parameters(item).get("mode"), Mode | None)
            or unpromised & marks
            or not _is_wanted(config, item)
        )
    ]
    if pointless:
        config.hook.pytest_deselected(items=pointless)
        items[:] = [item for item in items if item not in pointless]
    collected: dict[tuple[Path, str, str], list[str]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and isinstance(asked := _parameters(item).get("mode"), Mode):
            collected.setdefault((item.path, asked.id, item.originalname), []).append(_check(item, asked))
    for item in items:
        feature = next((by_marker[mark.name] for mark in item.iter_markers() if mark.name in by_marker), None)
        asked = _parameters(item).get("mode")
        if feature is None or not isinstance(asked, Mode) or not isinstance(item, pytest.Function):
            continue
        question = Check(
            feature=feature,
            mode=asked.id,
            check=_check(item, asked),
            checks=tuple(
                sorted(
                    check
                    for name in _functions(item, asked)
                    for check in collected.get((item.path, asked.id, name), [name])
                )
            ),
            asked=digest(config.getoption("contract"), item.path),
        )
        known = claims.known_failure(feature.id, asked.id, question.check)
        if known:
            question.expected = claims.cause(known.cause)
            item.add_marker(pytest.mark.xfail(strict=True, raises=KnownFailure, reason=question.expected.explanation))
        item.stash[QUESTION] = question


def _is_wanted(config: pytest.Config, item: pytest.Item) -> bool:
    """Say whether a test is asked, which takes so long that it has to be asked for; any other test is."""
    marks = {mark.name for mark in item.iter_markers()}
    return INSTALL not in marks or bool(marks & set(re.findall(r"\w+", config.getoption("markexpr"))))


def _index(chosen: list[Mode], asked: object) -> int:
    """Return a mode's place among the chosen ones; what is asked of none comes first."""
    return chosen.index(asked) if isinstance(asked, Mode) else -1


def _ends(item: pytest.Item) -> int:
    """Rank a test by what it ends: the later it is asked, the more others were served by the same boot."""
    marker = item.get_closest_marker("ends")
    return ("nothing", "guest", "container").index(marker.args[0]) if marker else 0


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return dict(callspec.params) if callspec else {}


def _check(item: pytest.Function, asked: Mode) -> str:
    """Return a test's name with its parameters, but for the mode."""
    parameters = item.callspec.id.removeprefix(asked.id).removesuffix(asked.id).strip("-")
    return f"{item.originalname}[{parameters}]" if parameters else item.originalname


def _functions(item: pytest.Function, asked: Mode) -> tuple[str, ...]:
    """Return the names of this test and all beside it that this mode is asked, collected now or not."""
    module = item.getparent(pytest.Module)
    functions = {name: one for name, one in vars(module.obj if module else None).items() if name.startswith("test_")}
    return tuple(
        sorted(
            name
            for name, one in functions.items()
            if _is_asked(item.config, {mark.name for mark in getattr(one, "pytestmark", [])}, asked)
        )
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get everything ready before the first question, so that what is missing is said at once."""
    config = session.config
    option = config.option
    only_lists = option.collectonly or option.showfixtures or option.show_fixtures_per_test or option.setupplan
    runs = SELECTED in config.stash and not only_lists and not session.testsfailed
    if not runs or not any(QUESTION in item.stash for item in session.items):
        return
    progress = config.stash[PROGRESS]
    if GIVEN_RUN in config.stash:
        config.stash[RUN] = config.stash[GIVEN_RUN]
        return
    part = config.stash.get(ASSIGNMENT, None)
    try:
        config.stash[RUN] = prepare(
            _contract(config.getoption("contract")),
            progress,
            tag=config.getoption("image"),
            choice=config.getoption("accel"),
            results=config.getoption("results"),
            host_name=config.getoption("host_name"),
            host_facts=dict(config.getoption("host_facts")),
            ready_seconds=config.getoption("ready_seconds"),
            pci_devices=config.getoption("pci_devices"),
            recorded_as=part.run if part else None,
        )
    except HarnessError as error:
        pytest.exit(f"error: {error}", returncode=EXIT_CANNOT_RUN)
    finally:
        progress.clear()


# ----------------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """What this run has."""
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def user_iso(request: pytest.FixtureRequest) -> UserIso:
    """The medium that the user gave; for tests that are marked ``user_iso``."""
    medium = request.config.stash[GIVEN]
    assert medium  # noqa: S101  - without one the test is not asked
    return medium


@pytest.fixture(scope="session")
def macvtap_link(request: pytest.FixtureRequest) -> str:
    """The link that the user named; for tests that are marked ``macvtap_link``."""
    return str(request.config.getoption("macvtap_link"))


@pytest.fixture(scope="session")
def mode(request: pytest.FixtureRequest) -> Mode:
    """The mode that is asked about."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture(scope="session")
def peer_network(run: Run) -> PeerNetwork:
    """A server beyond the NAT."""
    return run.peer_network


@pytest.fixture(scope="session")
def _alone(request: pytest.FixtureRequest, run: Run, mode: Mode) -> Iterator[None]:
    """In the host's network, no other run is there as well."""
    if not mode.host_network:
        yield
        return
    progress = request.config.stash[PROGRESS]
    with network_lock.held(lambda text: progress(f"{mode.id}: {text}"), address=network_lock.address(run.engine.info)):
        cleanup.sweep(run.engine.client, alone=True)  # whoever was waited for may have been killed
        yield


@pytest.fixture(scope="session")
def host_before(request: pytest.FixtureRequest, run: Run, mode: Mode, _alone: None) -> Iterator[frozenset[str]]:
    """The host's links, routes and firewall rules before the mode's container; only in the host's network."""
    if not mode.host_network:
        yield frozenset()
        return
    client = run.engine.client
    network_leftovers.remember(client, run.image.id, run.id)
    yield network.snapshot(client, run.image.id, run.id)
    progress = request.config.stash[PROGRESS]
    with contextlib.suppress(EngineError):  # what is left then, the end of the session says once
        for line in cleanup.give_back(client, run.id):
            progress(f"{mode.id}: removed what a killed container had left {line}")


@pytest.fixture(scope="session")
def _container(
    request: pytest.FixtureRequest,
    run: Run,
    mode: Mode,
    peer_network: PeerNetwork,
    host_before: frozenset[str],  # noqa: ARG001  - must be taken before
) -> Iterator[Container]:
    progress = request.config.stash[PROGRESS]
    container = run.container(mode, network=peer_network.network)
    request.config.stash[JUDGED] = container
    try:
        progress(f"{mode.id}: starting the container, waiting for libvirt to answer")
        container.start()
        container.wait_until_ready()
        run.verify(container)
        yield container
    finally:
        run.warnings[mode.id] = container.warnings
        progress(f"{mode.id}: stopping the container")
        with contextlib.suppress(EngineError):
            container.stop()
            container.remove()
        progress.clear()


@pytest.fixture
def container(_container: Container) -> Iterator[Container]:
    """The image under test, running in the mode; a test that ends it by anything but a clean stop has failed."""
    _container.revive()
    _container.mark()
    yield _container
    if not _container.running and _container.exit_status != 0:
        raise ImageFailure(f"the container ended during this test\n{_container.describe()}")


@pytest.fixture
def connection(container: Container) -> "libvirt.virConnect":
    """libvirt, over TCP on the published port."""
    return container.connection


@pytest.fixture
def container_host(container: Container) -> "Inside":
    """The container seen from inside."""
    # testinfra is a pytest plugin as well: imported any earlier, pytest could not rewrite its assertions.
    from conformance.container.testinfra_backend import look_into

    return look_into(container)


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the record keeps beside the guests' reports."""
    return request.node.stash[QUESTION].evidence  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def guests(
    request: pytest.FixtureRequest, run: Run, _container: Container, peer_network: PeerNetwork
) -> Iterator[Guests]:
    """The guests of the mode's container."""
    shared = ONE_FOR_ALL if run.minimise_boots else SHARED
    made = Guests(
        _container,
        run.probe,
        peer_network,
        run.accel_in(_container),
        request.config.stash[PROGRESS],
        shared=shared,
        unbootable_reason=run.unbootable_reason_in(_container),
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def _kvm_guests(request: pytest.FixtureRequest, run: Run, guests: Guests, peer_network: PeerNetwork) -> Guests:
    if run.accel == "tcg":
        pytest.skip("KVM was not asked: --accel tcg")
    if not run.kvm.usable:
        raise Unsupported(run.kvm.seen)
    if guests.accel == "kvm":
        return guests
    return Guests(guests.container, run.probe, peer_network, "kvm", request.config.stash[PROGRESS])


@pytest.fixture
def boot(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Boot:  # noqa: ARG001  - must be running
    """Boots a guest for some needs; one boot may answer several tests."""
    return _noting(request, guests)


@pytest.fixture
def running(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Live:  # noqa: ARG001  - must be running
    """Gives a guest that stays to be asked; one may serve several tests."""
    question: Check = request.node.stash[QUESTION]

    def running(*needs: Part, beside: RunningGuest | None = None) -> RunningGuest:
        guest = guests.running(*needs, beside=beside)
        question.boots.append(guest.guest)
        return guest

    return running


@pytest.fixture(scope="session")
def pci_pool(run: Run) -> PciPool:
    """The spare PCI devices of the host; one that has none to give cannot be asked."""
    _ = run.pci_pool.devices
    return run.pci_pool


@pytest.fixture
def pci_guest(request: pytest.FixtureRequest, guests: Guests, container: Container) -> PciGuest:  # noqa: ARG001  - must be running
    """Starts a guest that drives a PCI device of the host."""
    question: Check = request.node.stash[QUESTION]

    @contextlib.contextmanager
    def pci_guest(device: Device) -> Iterator[RunningGuest]:
        with guests.pci_guest(device) as guest:
            question.boots.append(guest.guest)
            yield guest

    return pci_guest


@pytest.fixture
def tuned(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Tuned:  # noqa: ARG001  - must be running
    """Starts a guest that is bound to parts of its host."""
    question: Check = request.node.stash[QUESTION]

    @contextlib.contextmanager
    def tuned(tuning: Tuning) -> Iterator[RunningGuest]:
        with guests.tuned(tuning) as guest:
            question.boots.append(guest.guest)
            yield guest

    return tuned


@pytest.fixture
def medium(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Medium:  # noqa: ARG001  - must be running
    """Starts a guest with a screen from a medium that need not be the probe's."""
    question: Check = request.node.stash[QUESTION]

    @contextlib.contextmanager
    def medium(path: Path, *, firmware: Firmware, memory_mib: int = MEMORY_MIB) -> Iterator[RunningGuest]:
        with guests.medium(path, firmware=firmware, memory_mib=memory_mib) as guest:
            question.boots.append(guest.guest)
            yield guest

    return medium


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest, peer_network: PeerNetwork) -> Installation:
    """Debian's installer, and the mirror that it installs from."""
    medium = debian_.debian(request.config.stash[PROGRESS])
    source = debian_mirror.chosen(request.config.getoption("install_mirror"))
    debian_mirror.require(source, medium.suite, peer_network)
    return Installation(medium.iso, {"mirror": source})


@pytest.fixture(scope="session")
def windows(request: pytest.FixtureRequest) -> Windows:
    """What the user wants to be installed; without a medium nothing is asked."""
    wanted = request.config.stash[WINDOWS]
    if wanted is None:
        pytest.skip(windows_.NEEDS)
    return wanted


@pytest.fixture
def install(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Install:  # noqa: ARG001  - must be running
    """Starts an installation, which can be watched."""
    question: Check = request.node.stash[QUESTION]

    @contextlib.contextmanager
    def install(what: Installation, *, firmware: Firmware) -> Iterator[Watch]:
        with guests.installing(what, firmware=firmware) as watch:
            question.boots.append(watch.guest)
            yield watch

    return install


@pytest.fixture
def boot_under_kvm(request: pytest.FixtureRequest, _kvm_guests: Guests, container: Container) -> Boot:  # noqa: ARG001  - must be running
    """The same, under KVM in any mode; a host without a usable KVM cannot be asked."""
    return _noting(request, _kvm_guests)


def _noting(request: pytest.FixtureRequest, guests: Guests) -> Boot:
    question: Check = request.node.stash[QUESTION]

    def boot(*needs: Need, firmware: Firmware = "bios") -> Guest:
        try:
            guest = guests.boot(*needs, firmware=firmware)
        except GuestFailure as failure:
            question.boots.append(failure.guest)
            raise
        question.boots.append(guest)
        return guest

    return boot


# ------------------------------------------------------------------------ from outcome to verdict


def _translated(item: pytest.Item) -> Generator[None, None, None]:
    """Let a phase of a test run, and name what ends it: a known failure, a host that cannot be asked."""
    question = item.stash.get(QUESTION, None)
    try:
        yield
    except Unsupported as error:
        if question is None:
            raise
        question.unsupported = str(error)
        pytest.skip(str(error))
    except Exception as error:
        if question is not None and blames_image(error):
            item.config.stash[RUN].require()
            _note_refusals(item, question)
        known = recognised(question.expected if question else None, error)
        if known:
            raise known from error
        raise


def _note_refusals(item: pytest.Item, question: Check) -> None:
    """Keep what a security module refused during a test that failed: a daemon tells of "Permission denied" only."""
    container = item.config.stash.get(JUDGED, None)
    if container is not None:
        with contextlib.suppress(EngineError):  # the verdict stands without it
            refused = item.config.stash[RUN].refusals(container)
            question.evidence |= {"refused": refused} if refused else {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Translate what fixtures raise."""
    question = item.stash.get(QUESTION, None)
    if question is not None:
        question.started = time.monotonic()
    yield from _translated(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Translate what the test raises."""
    yield from _translated(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge, record, and let pytest show a failure of the image as failed and one of the harness as error."""
    report = yield
    question = item.stash.get(QUESTION, None)
    if question is None or (report.when != "call" and report.passed):
        return report
    run = item.config.stash[RUN]
    error = at_fault(call.excinfo.value if call.excinfo else None, emulated=run.emulated)
    verdict = question.judge(error, skipped=report.skipped, after=report.when == "teardown")
    if verdict is Verdict.FAILS:
        report.when = "call"
    elif verdict is Verdict.ERROR and report.when == "call":
        report.when = "setup"
    if isinstance(error, HarnessError):
        report.longrepr = f"error: {error}"  # says what to do; where in the harness it was raised helps nobody
    if isinstance(error, EngineGone):
        # Each further question would wait for it and be an error, in place of what earlier runs found out.
        item.session.shouldfail = "the engine went away"
    item.user_properties.append(("verdict", str(verdict)))  # JUnit reads them after the teardown
    item.config.stash[PROGRESS].clear()
    try:
        # The first record may have to wait for what the host's KVM can do; a verdict that has fallen is kept.
        with signals.deferred():
            run.recorder.append(question.record(run, verdict, error))
    except HarnessError as unwritten:
        pytest.exit(f"error: {unwritten}", returncode=EXIT_CANNOT_RUN)
    return report


# -------------------------------------------------------------------------------------- the end


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
    """Leave nothing behind, however the session ends; one that decided nothing ends with a non-zero status."""
    run = session.config.stash.get(RUN, None)
    if run is None or GIVEN_RUN in session.config.stash:
        yield
        return
    if exitstatus == pytest.ExitCode.OK and not any(one.verdict.decided for one in run.recorder.records):
        session.exitstatus = EXIT_NOTHING_DECIDED
    if session.exitstatus in (pytest.ExitCode.OK, EXIT_NOTHING_DECIDED) and _missing(session.config, run):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    try:
        yield  # fixtures that are still set up, as after ctrl-C, are torn down in here
    finally:
        try:
            run.close()
        except (HarnessError, KeyboardInterrupt) as error:
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else error
            print(  # noqa: T201
                f"\nerror: cannot clean up: {why}\n"
                f"  the next run removes what is left; it carries the label {labels.RUN}={run.id}",
                file=sys.stderr,
            )
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _missing(config: pytest.Config, run: Run) -> list[str]:
    """Return what ``--require`` named and this session did not decide."""
    return requirements.missing(
        config.stash[REQUIRED],
        run.contract,
        run.recorder.records,
        asked=[one.id for one in config.stash[MODES]],
        fingerprint=run.fingerprint,
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Show the table of this run, and what of the required it lacks; of all parts of one, who leads them does."""
    run = config.stash.get(RUN, None)
    if run is None or ASSIGNMENT in config.stash:
        return
    if run.recorder.records:
        _show(terminalreporter, run)
    for line in _missing(config, run) if exitstatus != pytest.ExitCode.INTERRUPTED else ():
        terminalreporter.write_line(f"required, and not there: {line}", red=True)


def _show(terminalreporter: pytest.TerminalReporter, run: Run) -> None:
    terminalreporter.section("compatibility")
    for drawn in terminal.render(run.contract, run.recorder.records, color=terminalreporter.hasmarkup):
        terminalreporter.write_line(drawn)
    terminalreporter.write_line(f"records: {run.recorder.path}")
    if not any(one.verdict.decided for one in run.recorder.records):
        terminalreporter.write_line("nothing was decided", red=True)
