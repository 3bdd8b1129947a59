"""The container engine: connect to it within a deadline, or explain why that fails."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from conformance.engine import ssh_tunnel
from conformance.engine.api_errors import REMEDY
from conformance.engine.connect_errors import explain, root_cause
from conformance.engine.docker_context import address, certificates
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, EngineGone
from conformance.model.fingerprint import HostFingerprint
from conformance.util.wait import DeadlineExpired, within

API_NEEDED = (1, 41)
"""Docker 20.10: the first with cgroup namespaces and cgroup v2 (Docker's API version history)."""

CONNECT_SECONDS = 15
CALL_SECONDS = 120


@dataclass(frozen=True)
class Engine:
    """An engine that has answered."""

    client: docker.DockerClient
    host: str
    """The address, as DOCKER_HOST takes it."""
    info: Mapping[str, Any]
    """The engine's own description (``GET /info``)."""
    name: str
    """Product and version, such as ``docker 20.10.24+dfsg1``."""

    def require(self) -> None:
        """Check that the engine still answers.

        Raises:
            EngineGone: it does not answer.
        """
        try:
            within("the engine to answer", self.client.ping, seconds=CONNECT_SECONDS)
        except (DeadlineExpired, DockerException, requests.RequestException) as error:
            why = error.message if isinstance(error, DeadlineExpired) else error
            raise EngineGone(f"the engine no longer answers: {why}", REMEDY) from error

    def fingerprint(self, shell: HostShell | None = None) -> HostFingerprint:
        """Describe the engine's host.

        Args:
            shell: on that host, with cat. It reads the CPU's model, which the engine's own description lacks; not
                needed where the host is this machine.
        """
        return HostFingerprint(
            kernel=str(self.info.get("KernelVersion", "")),
            cgroup_version=int(self.info.get("CgroupVersion") or 0),
            security=tuple(sorted(_option_name(option) for option in self.info.get("SecurityOptions") or ())),
            engine=self.name,
            os=str(self.info.get("OperatingSystem", "")),
            arch=str(self.info.get("Architecture", "")),
            cpu=self._cpu(shell),
            cpus=int(self.info.get("NCPU") or 0),
        )

    @property
    def local(self) -> bool:
        """Return whether the engine's host is this machine; a local socket alone may be forwarded."""
        return self.host.startswith("unix:") and is_here(self.info)

    def _cpu(self, shell: HostShell | None) -> str:
        if self.local:
            return _model_name(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if shell is None:
            return ""
        try:
            return _model_name(shell.output(["cat", "/proc/cpuinfo"]))
        except EngineError:
            return ""  # no verdict depends on it


def is_here(info: Mapping[str, Any]) -> bool:
    """Return whether an engine's description of itself (``GET /info``) fits this machine."""
    here = platform.uname()
    return (info.get("Name"), info.get("KernelVersion")) == (here.node, here.release)


def connect(host: str | None = None, *, seconds: int = CONNECT_SECONDS, ssh: Sequence[str] = ()) -> Engine:
    """Return the engine at an address, by default at the one that :func:`address` finds.

    Args:
        host: the address, as DOCKER_HOST takes it: ``unix://``, ``tcp://`` or ``ssh://``.
        seconds: within how many seconds it has to have answered.
        ssh: more words for ssh, such as ``-i KEY``; its own configuration is read anyway.

    Raises:
        NoEngineError: nothing answers there.
        EngineError: an engine is there, but refuses, is too old, is not an engine, or does not answer in time.
    """
    wanted = host or address()[0]
    try:
        # A deadline of its own: timeouts of sockets start anew with every byte, and ssh has none.
        return within(f"the engine at {wanted}", lambda: _open(wanted, seconds, ssh), seconds=seconds)
    except DeadlineExpired as error:
        raise EngineError(
            f"the engine at {wanted} accepted the connection, but did not answer within {seconds:g} s",
            "restart it (sudo systemctl restart docker), or set DOCKER_HOST to another one",
        ) from error
    except (DockerException, requests.RequestException, OSError, ValueError, TypeError) as error:
        if wanted.startswith("ssh://"):
            raise ssh_tunnel.to(wanted, ssh).why(root_cause(error)) from error
        raise explain(wanted, error, seconds) from error


def _open(host: str, seconds: int, ssh: Sequence[str]) -> Engine:
    options: dict[str, Any] = {}
    if host.startswith("ssh://"):
        # docker-py's own way starts an ssh for each connection, and needs a package that does what ssh does.
        options["base_url"] = f"unix://{ssh_tunnel.to(host, ssh, seconds=0.8 * seconds).socket}"
    else:
        options |= kwargs_from_env({**certificates(), **os.environ, "DOCKER_HOST": host})
        options["base_url"] = host  # kwargs_from_env rewrites tcp:// to https:// as a hint that docker-py does not need
    client = docker.DockerClient(timeout=seconds, version="auto", **options)
    version = client.version()
    info = client.info()
    if not isinstance(version, dict) or not isinstance(info, dict):
        raise ValueError("the answer is not an engine's")
    api_version = tuple(int(part) for part in str(version.get("ApiVersion", "0")).split("."))
    name = _product(version)
    if api_version < API_NEEDED:
        raise EngineError(
            f"the engine at {host} ({name}) speaks API {version.get('ApiVersion')};"
            f" {'.'.join(map(str, API_NEEDED))} is needed",
            "upgrade it to Docker 20.10 or later, or set DOCKER_HOST to another engine",
        )
    client.api.timeout = CALL_SECONDS
    return Engine(client, host, info, name)


def _product(version: Mapping[str, Any]) -> str:
    """Return product and version; Podman names itself in the first component."""
    components = version.get("Components") or ()
    first = str(components[0].get("Name", "")) if components else ""
    return f"{'podman' if 'podman' in first.lower() else 'docker'} {version.get('Version', '')}".strip()


def _option_name(option: str) -> str:
    """Return ``seccomp`` for ``name=seccomp,profile=default``."""
    return option.split(",")[0].removeprefix("name=")


def _model_name(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""
