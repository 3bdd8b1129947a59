"""The options of the matrix, and what they choose."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from conformance.container.container import READY_SECONDS
from conformance.errors import (
    ContractError,
    MediaError,
)
from conformance.guests.devices import Firmware
from conformance.host import pci
from conformance.installers import user_iso as given_
from conformance.installers.windows import user_iso as windows_
from conformance.model import contract, requirements
from conformance.model import mode as modes_
from conformance.model.contract import Contract
from conformance.plugin.state import ASSIGNMENT, GIVEN, INSTALL, MODES, PROGRESS, REQUIRED, WINDOWS
from conformance.util import paths
from conformance.util.progress import Progress


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
def contract_of(path: Path) -> Contract:
    """Return the contract in a file, which is read once a process."""
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
        claims = contract_of(config.getoption("contract"))
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
