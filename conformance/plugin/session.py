"""The rest of the plugin, for sessions with suites: options are resolved, features have markers."""

import pytest

from conformance.errors import BadOption, ContractError, MediaError
from conformance.plugin import options
from conformance.plugin.ending import PlainEnd
from conformance.plugin.state import ESSENTIAL, INSTALL, LEADER, OPTIONS, SESSION, SessionState, WorkerContext

pytest_plugins = ["conformance.plugin.collection", "conformance.plugin.reporting"]

MARKERS = (
    "host_network: runs only in modes with the host's network",
    "own_network: runs only in modes with a network of the container's own",
    "recommended: runs only in modes that the contract recommends for some host",
    "profiled: runs only in modes with an AppArmor profile of this project",
    "extras: runs only on images with this project's additions: health check, user numbers, warnings at start",
    "foreseen: runs only in modes in which the image knows that something will fail",
    f"{ESSENTIAL}: runs in conformance privileges and conformance smoke, for its feature",
    "user_iso: runs only with --libvirt-iso",
    f"{INSTALL}: installs an operating system; slow, runs only if -m names it",
    "macvtap_link: runs only with --libvirt-macvtap-link",
    "ends(what): ends the running 'guest' or the 'container'; runs after the tests that need them",
)


def pytest_configure(config: pytest.Config) -> None:
    """Resolve the options, and register a marker for each feature of the contract."""
    leader = config.stash.get(LEADER, None)
    worker = leader if isinstance(leader, WorkerContext) else None
    try:
        resolved = config.stash[OPTIONS] = options.resolve(config, only_modes=worker.modes if worker else ())
    except (BadOption, ContractError, MediaError) as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SESSION] = SessionState(config, worker, None if isinstance(leader, WorkerContext) else leader)
    config.pluginmanager.register(PlainEnd(config))
    for feature in resolved.features:
        config.addinivalue_line("markers", f"{feature.marker}: {feature.claim}")
    for line in MARKERS:
        config.addinivalue_line("markers", line)
