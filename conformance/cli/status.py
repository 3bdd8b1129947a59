"""Exit statuses: those of pytest for every command, and 6 where nothing can run (docs/testing.md)."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest
import typer
from typer.core import TyperGroup

from conformance.plugin.state import EXIT_CANNOT_RUN

FAILED = int(pytest.ExitCode.TESTS_FAILED)
INTERRUPTED = int(pytest.ExitCode.INTERRUPTED)
INTERNAL_ERROR = int(pytest.ExitCode.INTERNAL_ERROR)
USAGE = int(pytest.ExitCode.USAGE_ERROR)
CANNOT_RUN = EXIT_CANNOT_RUN

USAGE_ERROR = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""The base class of typer's errors about the command line, which typer does not export; its own status is 2."""


class CommandGroup(TyperGroup):
    """Gives usage errors and interruptions their statuses; the contexts' types are private to typer."""

    def make_context(self, *words: Any, **settings: Any) -> Any:
        """Parse the options before the command."""
        with _statuses():
            return super().make_context(*words, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _statuses():
            return super().invoke(ctx)


@contextlib.contextmanager
def _statuses() -> Iterator[None]:
    try:
        yield
    except USAGE_ERROR as error:
        error.exit_code = USAGE
        raise
    except KeyboardInterrupt as interruption:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from interruption
