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
                "conformance engine bash": "use it until the shell exits",
            },
            STATUS: {"any": "the status of COMMAND"} | COMMON_STATUS,
        }
    ),
)
def engine_(context: typer.Context) -> None:
    """Run COMMAND on the engine that answers, else on a private one.

    DOCKER_HOST names it for COMMAND. A private engine stops when COMMAND ends.
    """
    if not context.args:
        raise typer.BadParameter("COMMAND is missing: conformance engine COMMAND [ARGUMENT ...]")
    raise typer.Exit(local_daemon.run(context.args, Progress()))
