"""Reasons why no connection to an engine can be made, and remedies."""

from collections.abc import Iterator

import requests

from conformance.engine.docker_context import DEFAULT_HOST
from conformance.errors import EngineError
from conformance.util import paths


class NoEngineError(EngineError):
    """Nothing listens at the engine's address: a private engine would not disturb another one."""


def explain(host: str, error: Exception, seconds: float) -> EngineError:
    """Turn an error of docker-py, requests or the operating system into a reason and a remedy."""
    causes = tuple(_causes(error))
    root = root_cause(error)
    text = " ".join(str(cause) for cause in causes)
    path = host.removeprefix("unix://")
    elsewhere = "or set DOCKER_HOST to a running engine"
    start = _start(host)

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
            start,
        )
    if caused_by(ConnectionRefusedError):
        return NoEngineError(
            f"no container engine: connection refused at {host}",
            start,
        )
    if caused_by(requests.exceptions.SSLError) or "TLS" in text or "HTTPS server" in text:
        return EngineError(
            f"no TLS connection to the engine at {host}: {root}",
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
    return EngineError(f"no usable container engine at {host}: {root}", f"correct DOCKER_HOST, {elsewhere}")


def _start(host: str) -> str:
    """Return the remedies where nothing listens at an address: on the default one, the commands start an engine."""
    private = f"{paths.COMMAND} matrix, which starts a private engine if none answers (as root)"
    if host == DEFAULT_HOST:
        return f"start Docker (sudo systemctl start docker), set DOCKER_HOST to a running engine, or use {private}"
    leave = "unset DOCKER_HOST (a Docker context: docker context use default)"
    return f"start that engine, set DOCKER_HOST to a running one, or {leave} and use {private}"


def root_cause(error: BaseException) -> str:
    """Return the first line of the error behind all others, or its type."""
    *_, root = _causes(error)
    return (str(root).strip().splitlines() or [type(root).__name__])[0]


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
