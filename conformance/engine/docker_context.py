"""The engine's address: DOCKER_HOST, the current Docker context, or the default socket."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.errors import EngineError

DEFAULT_HOST = "unix:///var/run/docker.sock"


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


def _configured_context(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("currentContext", "")) if isinstance(config, dict) else ""
