"""``conformance engine``."""

import typer

from conformance.cli.manual import COMMON_STATUS, EXAMPLES, STATUS, manual
from conformance.cli.options import PASS_ON
from conformance.engine import local_daemon
from conformance.util.progress import Progress

app = typer.Typer()


@app.command(
    name="engine",
    context_settings=PASS_ON | {"help_option_names": ["--help"]},
    epilog=manual(
        {
            EXAMPLES: {
                "conformance engine docker ps": "the private engine's containers",
                "conformance engine bash": "work with it until the shell ends",
            },
            STATUS: {"COMMAND's": "where it was run"} | COMMON_STATUS,
        }
    ),
)
def engine_(context: typer.Context) -> None:
    """Run COMMAND with DOCKER_HOST set to an engine: the one that answers, or a private one until COMMAND ends."""
    if not context.args:
        raise typer.BadParameter("which command? conformance engine COMMAND [ARGUMENT ...]")
    raise typer.Exit(local_daemon.run(context.args, Progress()))
