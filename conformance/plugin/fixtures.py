"""The fixtures of the suites."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import libvirt
import pytest

from conformance.container.container import Container
from conformance.errors import (
    EngineError,
    ImageFailure,
    Unsupported,
)
from conformance.guests.devices import ONE_BOOT_EACH, ONE_BOOT_FOR_ALL, DeviceName, Firmware
from conformance.guests.factory import Guests
from conformance.guests.guest import Guest, GuestFailure
from conformance.guests.install_watch import Watch
from conformance.guests.peer_network import PeerNetwork
from conformance.guests.request import GuestRequest, Installation
from conformance.guests.running import RunningGuest
from conformance.host import network, network_leftovers, network_lock
from conformance.host.pci import PciPool
from conformance.installers import debian_mirror
from conformance.installers.user_iso import UserIso
from conformance.installers.windows import user_iso as windows_isos
from conformance.installers.windows.user_iso import Windows
from conformance.media import debian as debian_media
from conformance.model.mode import Mode
from conformance.plugin.state import CHECK, OPTIONS, SESSION
from conformance.run import cleanup
from conformance.run.check import Check
from conformance.run.context import Run

if TYPE_CHECKING:
    from testinfra.host import Host as Inside

__all__ = [
    "_container",
    "_host_network_lock",
    "_kvm_guests",
    "boot",
    "boot_under_kvm",
    "connection",
    "container",
    "container_host",
    "debian",
    "evidence",
    "guests",
    "host_before",
    "install",
    "macvtap_link",
    "mode",
    "pci_pool",
    "peer_network",
    "run",
    "running",
    "start_guest",
    "user_iso",
    "windows",
]
"""The fixtures; a ``conftest.py`` of suites imports them, and pytest limits them to its folder."""


class Boot(Protocol):
    """Boots a guest, or returns one from an earlier boot that reported on the same devices."""

    def __call__(self, *needs: DeviceName, firmware: Firmware = "bios") -> Guest:
        """Return the guest; raises as :meth:`Guests.boot`."""
        ...


class RunningGuests(Protocol):
    """Returns a running guest with some devices."""

    def __call__(self, *needs: DeviceName, beside: RunningGuest | None = None) -> RunningGuest:
        """Return the guest; raises as :meth:`Guests.running`."""
        ...


StartGuest = Callable[[GuestRequest], contextlib.AbstractContextManager[RunningGuest]]
"""Starts a guest that runs until the end of the context; raises as :meth:`Guests.start`."""


class Install(Protocol):
    """Installs a system."""

    def __call__(self, what: Installation, *, firmware: Firmware) -> contextlib.AbstractContextManager[Watch]:
        """Watch the installation until the end of the context; raises as :meth:`Guests.installing`."""
        ...


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """The run: its contract, engine, host, image and options."""
    return request.config.stash[SESSION].prepared_run


@pytest.fixture(scope="session")
def user_iso(request: pytest.FixtureRequest) -> UserIso:
    """The medium of ``--libvirt-iso``; for tests with the marker ``user_iso``."""
    medium = request.config.stash[OPTIONS].user_iso
    assert medium  # noqa: S101  - without it, the marker deselects the test
    return medium


@pytest.fixture(scope="session")
def macvtap_link(request: pytest.FixtureRequest) -> str:
    """The network interface of ``--libvirt-macvtap-link``; for tests with the marker ``macvtap_link``."""
    return str(request.config.stash[OPTIONS].macvtap_link)


@pytest.fixture(scope="session")
def mode(request: pytest.FixtureRequest) -> Mode:
    """The privilege mode of the container; each test runs once in each chosen mode."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture(scope="session")
def peer_network(run: Run) -> PeerNetwork:
    """A network with a server outside of the container, for traffic from guests."""
    return run.peer_network


@pytest.fixture(scope="session")
def _host_network_lock(request: pytest.FixtureRequest, run: Run, mode: Mode) -> Iterator[None]:
    """A lock on the host's network, for modes that use it: no other run is in it."""
    if not mode.host_network:
        yield
        return
    progress = request.config.stash[SESSION].progress
    with network_lock.held(lambda text: progress(f"{mode.id}: {text}"), address=network_lock.address(run.engine.info)):
        cleanup.sweep(run.engine.client, alone=True)  # the run before may have been killed
        yield


@pytest.fixture(scope="session")
def host_before(
    request: pytest.FixtureRequest, run: Run, mode: Mode, _host_network_lock: None
) -> Iterator[frozenset[str]]:
    """The host's links, routes and firewall rules before the container started; empty without the host's network."""
    if not mode.host_network:
        yield frozenset()
        return
    network_leftovers.remember(run.shell)
    yield network.snapshot(run.shell)
    progress = request.config.stash[SESSION].progress
    with contextlib.suppress(EngineError):  # the end of the session reports leftovers once
        for line in cleanup.restore_network(run.engine.client, run.id):
            progress.line(f"{mode.id}: removed leftovers of a killed container: {line}")


@pytest.fixture(scope="session")
def _container(
    request: pytest.FixtureRequest,
    run: Run,
    mode: Mode,
    peer_network: PeerNetwork,
    host_before: frozenset[str],  # noqa: ARG001  - must be taken before
) -> Iterator[Container]:
    progress = request.config.stash[SESSION].progress
    container = run.container(mode, network=peer_network.network)
    request.config.stash[SESSION].container = container
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
    """The running container of the image under test; a test fails if the container ends with an exit status."""
    _container.revive()
    _container.mark()
    yield _container
    if not _container.running and _container.exit_status != 0:
        raise ImageFailure(f"the container ended during this test\n{_container.describe()}")


@pytest.fixture
def connection(container: Container) -> "libvirt.virConnect":
    """A connection to the container's libvirt, by TCP on the published port."""
    return container.connection


@pytest.fixture
def container_host(container: Container) -> "Inside":
    """The container as a testinfra host: its files, processes and commands."""
    # testinfra is a pytest plugin, too: after an earlier import, pytest could not rewrite its assertions.
    from conformance.container.testinfra_backend import look_into

    return look_into(container)


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Evidence for the test's record, in addition to the guests' reports; add keys to it."""
    return request.node.stash[CHECK].evidence  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def guests(
    request: pytest.FixtureRequest, run: Run, _container: Container, peer_network: PeerNetwork
) -> Iterator[Guests]:
    """All guests of the container; tests use ``boot``, ``running`` or ``start_guest``."""
    made = Guests(
        _container,
        run.probe,
        peer_network,
        run.accel_in(_container),
        request.config.stash[SESSION].progress,
        sharing=ONE_BOOT_FOR_ALL if run.minimise_boots else ONE_BOOT_EACH,
        unbootable_reason=run.unbootable_reason_in(_container),
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def _kvm_guests(request: pytest.FixtureRequest, run: Run, guests: Guests, peer_network: PeerNetwork) -> Guests:
    if run.accel == "tcg":
        pytest.skip("--accel tcg: guests run without KVM")
    if not run.kvm.usable:
        raise Unsupported(run.kvm.seen)
    if guests.accel == "kvm":
        return guests
    return Guests(guests.container, run.probe, peer_network, "kvm", request.config.stash[SESSION].progress)


@pytest.fixture
def boot(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Boot:  # noqa: ARG001  - must be running
    """Boots a guest with some devices; one boot may serve several checks."""
    return _recorded(request, guests)


@pytest.fixture
def running(request: pytest.FixtureRequest, guests: Guests, container: Container) -> RunningGuests:  # noqa: ARG001  - must be running
    """Returns a running guest with some devices; one may serve several checks."""
    check: Check = request.node.stash[CHECK]

    def running(*needs: DeviceName, beside: RunningGuest | None = None) -> RunningGuest:
        guest = guests.running(*needs, beside=beside)
        check.boots.append(guest.observed)
        return guest

    return running


@pytest.fixture(scope="session")
def pci_pool(run: Run) -> PciPool:
    """The PCI devices of ``--libvirt-pci-device``; without any, the test is skipped as unsupported."""
    _ = run.pci_pool.devices
    return run.pci_pool


@pytest.fixture
def start_guest(request: pytest.FixtureRequest, guests: Guests, container: Container) -> StartGuest:  # noqa: ARG001  - must be running
    """Starts a guest of the check's own, as a request describes it."""
    check: Check = request.node.stash[CHECK]

    @contextlib.contextmanager
    def start_guest(wanted: GuestRequest) -> Iterator[RunningGuest]:
        with guests.start(wanted) as guest:
            check.boots.append(guest.observed)
            yield guest

    return start_guest


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest, peer_network: PeerNetwork) -> Installation:
    """Debian's installer, with the mirror of ``--libvirt-install-mirror``."""
    medium = debian_media.ensure(request.config.stash[SESSION].progress)
    source = debian_mirror.mirror_url(request.config.stash[OPTIONS].install_mirror)
    debian_mirror.require(source, medium.suite, peer_network)
    return Installation(medium.iso, {"mirror": source})


@pytest.fixture(scope="session")
def windows(request: pytest.FixtureRequest) -> Windows:
    """The Windows installation of ``--libvirt-windows-iso``; without it, the test is skipped."""
    wanted = request.config.stash[OPTIONS].windows
    if wanted is None:
        pytest.skip(windows_isos.NEEDS)
    return wanted


@pytest.fixture
def install(request: pytest.FixtureRequest, guests: Guests, container: Container) -> Install:  # noqa: ARG001  - must be running
    """Installs a system from a medium, and watches it."""
    check: Check = request.node.stash[CHECK]

    @contextlib.contextmanager
    def install(what: Installation, *, firmware: Firmware) -> Iterator[Watch]:
        with guests.installing(what, firmware=firmware) as watch:
            check.boots.append(watch.guest)
            yield watch

    return install


@pytest.fixture
def boot_under_kvm(request: pytest.FixtureRequest, _kvm_guests: Guests, container: Container) -> Boot:  # noqa: ARG001  - must be running
    """Boots a guest under KVM in any mode; skipped on a host without a usable KVM."""
    return _recorded(request, _kvm_guests)


def _recorded(request: pytest.FixtureRequest, guests: Guests) -> Boot:
    """Return a fixture that boots guests, and adds each boot to the record's evidence."""
    check: Check = request.node.stash[CHECK]

    def boot(*needs: DeviceName, firmware: Firmware = "bios") -> Guest:
        try:
            guest = guests.boot(*needs, firmware=firmware)
        except GuestFailure as failure:
            check.boots.append(failure.guest)
            raise
        check.boots.append(guest)
        return guest

    return boot
