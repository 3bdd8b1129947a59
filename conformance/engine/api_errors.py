"""Errors of the engine's API, turned into the harness's own."""

import contextlib
from collections.abc import Iterator

import requests
from docker.errors import DockerException, NotFound

from conformance.errors import EngineError, EngineGone

REMEDY = "read the engine's log, start the engine again, and run again"


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the errors of docker-py and of its connection into EngineError and EngineGone."""
    try:
        yield
    except NotFound as error:
        raise EngineError(
            f"the container, network or image is gone: someone else removed it ({error.explanation})", "run again"
        ) from error
    except DockerException as error:
        raise EngineError(f"the engine refused: {error}", "read the engine's log") from error
    except (requests.exceptions.RequestException, ConnectionError) as error:
        raise EngineGone(f"the engine no longer answers: {error}", REMEDY) from error
