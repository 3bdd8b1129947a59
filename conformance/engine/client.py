"""The container engine: connect to it within a deadline, or explain why that fails."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from conformance.engine import ssh_tunnel
from conformance.engine.api_errors import REMEDY
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError, EngineGone
from conformance.model.fingerprint import HostFingerprint
from conformance.util.wait import DeadlineExpired, within

DEFAULT_HOST = "unix:///var/run/docker.sock"
API_NEEDED = (1, 41)
"""Docker 20.10: the first with cgroup namespaces and cgroup v2 (Docker's API version history)."""

CONNECT_SECONDS = 15
CALL_SECONDS = 120


class NoEngineError(EngineError):
    """Nothing listens at the engine's address: a private engine would not disturb another one."""


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


def address(environ: Mapping[str, str] = os.environ) -> tuple[str, bool]:
    """Return the engine's address (DOCKER_HOST, the Docker context, or the default) and whether the user chose it.

    Raises:
        EngineError: the current context does not exist or cannot be read.
    """
    if environ.get("DOCKER_HOST"):
        return environ["DOCKER_HOST"], True
    context = _context(environ)
    return (context.host, True) if context else (DEFAULT_HOST, False)


def certificates(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables for a Docker context's certificates; empty without certificates.

    DOCKER_HOST overrides the context: a caller that sets DOCKER_HOST to the context's address sets these, too.

    Raises:
        EngineError: the current context does not exist or cannot be read.
    """
    context = None if environ.get("DOCKER_HOST") else _context(environ)
    if context is None or not context.certificates.is_dir():
        return {}
    return {"DOCKER_CERT_PATH": str(context.certificates), "DOCKER_TLS_VERIFY": "1" if context.verified else ""}


@dataclass(frozen=True)
class _Context:
    """A Docker context: an address and, if the folder is there, ca.pem, cert.pem and key.pem."""

    host: str
    certificates: Path
    verified: bool


def _context(environ: Mapping[str, str]) -> _Context | None:
    """Return the current Docker context; None for the default one.

    Where it lies is what ``docker context inspect`` shows as Storage. docker-py finds none without a config.json.
    """
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/") / ".docker")
    name = environ.get("DOCKER_CONTEXT") or _configured_context(folder)
    if name in ("", "default"):
        return None
    key = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta = json.loads((folder / "contexts" / "meta" / key / "meta.json").read_text(encoding="utf-8"))
        endpoint = meta["Endpoints"]["docker"]
        return _Context(
            host=str(endpoint["Host"]),
            certificates=folder / "contexts" / "tls" / key / "docker",
            verified=not endpoint.get("SkipTLSVerify"),
        )
    except FileNotFoundError as error:
        raise EngineError(
            f"the Docker context {name!r} does not exist",
            "choose another one (docker context use default), or set DOCKER_HOST",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the Docker context {name!r} cannot be read: {error!r}", "see whether docker context ls shows it"
        ) from error


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
            raise ssh_tunnel.to(wanted, ssh).why(_last(tuple(_causes(error)))) from error
        raise _explain(wanted, error, seconds) from error


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


def _explain(host: str, error: Exception, seconds: float) -> EngineError:
    """Turn an error of docker-py, requests or the operating system into a reason and a remedy."""
    causes = tuple(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    path = host.removeprefix("unix://")
    elsewhere = "or set DOCKER_HOST to a running engine"

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(PermissionError):
        return EngineError(
            f"permission denied: this user may not open the engine's socket {path}",
            'sudo usermod -aG docker "$USER", then log in again (members of that group are as good as root);'
            " for one run: sudo -g docker ./run matrix",
        )
    if caused_by(FileNotFoundError) and host.startswith("unix://"):
        return NoEngineError(
            f"no container engine: the socket {path} does not exist",
            f"start Docker (sudo systemctl start docker), {elsewhere}",
        )
    if caused_by(ConnectionRefusedError):
        return NoEngineError(
            f"no container engine: connection refused at {host}",
            f"start Docker (sudo systemctl start docker), {elsewhere}",
        )
    if caused_by(requests.exceptions.SSLError) or "TLS" in text or "HTTPS server" in text:
        return EngineError(
            f"no TLS connection to the engine at {host}: {_last(causes)}",
            "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH to the folder with ca.pem, cert.pem and key.pem,"
            " or unset both for an engine without TLS",
        )
    if caused_by(requests.exceptions.Timeout, TimeoutError):
        return EngineError(
            f"the engine at {host} did not answer within {seconds:g} s",
            "restart it (sudo systemctl restart docker), or set DOCKER_HOST to another one",
        )
    if "resolve" in text or "Name or service not known" in text:
        return EngineError(f"the host name in {host} cannot be resolved", f"correct DOCKER_HOST, {elsewhere}")
    return EngineError(f"no usable container engine at {host}: {_last(causes)}", f"correct DOCKER_HOST, {elsewhere}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, including those that libraries pass as arguments only."""
    seen: list[BaseException] = []
    todo: list[BaseException] = [error]
    while todo:
        one = todo.pop()
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        todo += [more for more in (one.__cause__, one.__context__, *one.args) if isinstance(more, BaseException)]


def _last(causes: tuple[BaseException, ...]) -> str:
    return str(causes[-1]).strip().splitlines()[0] if str(causes[-1]).strip() else type(causes[-1]).__name__


def _configured_context(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("currentContext", "")) if isinstance(config, dict) else ""


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
