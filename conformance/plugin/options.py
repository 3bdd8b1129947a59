"""All options and ini keys of a session, resolved once into one object."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from conformance.container.container import READY_SECONDS
from conformance.engine import client as engine
from conformance.errors import EngineError
from conformance.host import pci
from conformance.installers import user_iso as user_isos
from conformance.installers.user_iso import UserIso
from conformance.installers.windows import user_iso as windows_isos
from conformance.installers.windows.user_iso import Windows
from conformance.model import contract as contracts
from conformance.model import mode as modes
from conformance.model import requirements
from conformance.model.contract import Contract, Feature
from conformance.model.mode import Mode
from conformance.model.profile import Profile
from conformance.plugin.settings import SETTINGS
from conformance.run.context import AccelChoice
from conformance.run.preparation import OTHER_RESULTS
from conformance.util import files, paths


@dataclass(frozen=True)
class Options:
    """The settings of a session.

    Attributes:
        contract: features, modes and known failures.
        contract_file: the contract's file.
        profile: features and checks to test.
        mode_ids: the contract's ids of the modes to test, in order.
        modes: these modes, without what is removed.
        modes_by_host: whether each host tests only the recommended one of these modes.
        without: ids of what is removed from the modes.
        image: to test; None for the project's own, which is built.
        accel: how guests run.
        results: folder of the records; None for the run's own.
        ready_seconds: deadline for libvirt to answer after the container's start.
        host_name: of the engine's host in the records; None for one that is made from its engine.
        host_facts: further facts about that host for the records.
        required: names of what has to be decided.
        install_mirror: URL for the Debian installation; None for apt's own.
        user_iso: medium to boot.
        windows: Windows to install.
        macvtap_link: network interface of the engine's host for a macvtap guest.
        pci_devices: addresses of PCI devices of the engine's host for guests.
    """

    contract: Contract
    contract_file: Path
    profile: Profile
    mode_ids: tuple[str, ...]
    modes: tuple[Mode, ...]
    modes_by_host: bool
    without: tuple[str, ...]
    image: str | None
    accel: AccelChoice
    results: Path | None
    ready_seconds: float
    host_name: str | None
    host_facts: Mapping[str, str]
    required: tuple[str, ...]
    install_mirror: str | None
    user_iso: UserIso | None
    windows: Windows | None
    macvtap_link: str | None
    pci_devices: tuple[str, ...]

    @property
    def features(self) -> tuple[Feature, ...]:
        """Return all features that have a marker, those that the image does not promise included."""
        return (*self.contract.features, *self.contract.unpromised)


FULL = "full"
"""The profile of a session that names none."""


@functools.cache
def _contract(file: Path) -> Contract:
    """Return the contract in a file, which is read once a process."""
    return contracts.load(file)


def resolve(config: pytest.Config, *, only_modes: Collection[str] = ()) -> Options:
    """Return the settings of a session.

    A profile may test the mode recommended for the host; then a session that runs tests asks the engine for its host.
    One that only collects tests, or gets no answer, has the modes recommended for all kinds of hosts.

    Args:
        config: pytest's.
        only_modes: of a worker, those of the chosen modes that it tests; ``--require`` is its leader's then.

    Raises:
        BadOption: the place for the records is no folder.
        ContractError: the contract cannot be read, or does not have a name.
        MediaError: a medium cannot be used, or an option for it is missing.
        UsageError: another option's value is not accepted.
    """

    def value(name: str, default: Any = None) -> Any:
        found = SETTINGS[name].read(config)
        return default if found is None else found

    file = value("contract", paths.CONTRACT)
    contract = _contract(file)
    user_iso = user_isos.from_options(*map(value, ("iso", "iso-expect", "iso-firmware")))
    windows = windows_isos.from_options(
        *map(value, ("windows-iso", "virtio-win-iso", "windows-edition", "windows-firmware", "windows-key"))
    )
    required = () if only_modes else tuple(value("require", ()))
    requirements.parse(contract, required)
    profile = contract.profile(value("profile", FULL))
    named = value("mode")
    by_host = named is None and profile.modes == "recommended"
    asks = by_host and not only_modes and not config.option.collectonly
    ids = tuple(dict.fromkeys(named or contract.modes_of(profile, _security() if asks else None)))
    without = tuple(value("without", ()))
    results: Path | None = value("results")
    if results:
        files.require_folder(results, OTHER_RESULTS)
    return Options(
        contract=contract,
        contract_file=file,
        profile=profile,
        mode_ids=ids,
        modes=tuple(modes.from_contract(contract, one, without) for one in ids if not only_modes or one in only_modes),
        modes_by_host=by_host,
        without=without,
        image=value("image"),
        accel=value("accel", "auto"),
        results=results,
        ready_seconds=value("ready-seconds", READY_SECONDS),
        host_name=value("host-name"),
        host_facts=MappingProxyType(dict(value("host-fact", ()))),
        required=required,
        install_mirror=value("install-mirror"),
        user_iso=user_iso,
        windows=windows,
        macvtap_link=value("macvtap-link"),
        pci_devices=tuple(_pci_address(word) for word in value("pci-device", ())),
    )


def _security() -> str | None:
    """Return the security options of the engine's host; None if no engine answers, which the run will report."""
    try:
        return ", ".join(engine.connect().fingerprint().security)
    except EngineError:
        return None


def _pci_address(word: str) -> str:
    try:
        return pci.address(word)
    except ValueError as error:
        raise pytest.UsageError(f"--libvirt-pci-device: {error}") from error
