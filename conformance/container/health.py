"""The image's own health check."""

from conformance.container.container import Container
from conformance.container.engine_container import ExecResult
from conformance.errors import ImageFailure


def run_health_check(container: Container, *, port: int | None = None) -> ExecResult:
    """Run the image's health check as the engine does.

    Args:
        container: of the image.
        port: the check looks for the API there; by default where the API is.

    Raises:
        ImageFailure: the image has no health check, or it outlived its deadline.
    """
    check = list((container.inspect()["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"])
    kind, words = check[0], check[1:]
    if kind == "NONE":
        raise ImageFailure("the image has no health check")
    # "CMD-SHELL" has one word, for a shell (Docker's API, HealthConfig).
    words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
    variables = [f"{container.mode.image.port_variable}={port}"] if port else []
    return container.run("env", *variables, *words)
