"""The command line: ``conformance --help``."""

import sys

import typer

from conformance.cli import bench, doctor, engine, jobs, lab, matrix, modes, records, searches
from conformance.cli.manual import COMMON_STATUS, ENVIRONMENT, EXAMPLES, FILES, STATUS, manual
from conformance.errors import ContractError, HarnessError, ImageFailure
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.util import signals

EXIT_USAGE = 2

app = typer.Typer(
    help="Prove with real guests what libvirt in a container can do, and write it down.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "what this machine can be asked",
                "conformance matrix -m kvm --mode privileged": "ask one thing",
                "conformance COMMAND --help": "more of each command",
                "conformance --install-completion": "let the shell complete commands, modes and labs",
            },
            STATUS: {"0": "well", "1": "what was asked for is not so"} | COMMON_STATUS,
            ENVIRONMENT: {
                "DOCKER_HOST, DOCKER_CONTEXT": "the engine, as Docker's own command line takes them",
                "CONFORMANCE_CACHE": "the folder of downloads, media, labs and the private engine",
                "CONFORMANCE_DEBIAN_MIRROR": "the Debian archive to use instead of apt's",
                "NO_COLOR": "no colours, if it is not empty",
            },
            FILES: {
                "contract.toml": "features, modes, known failures",
                "results/": "the records that the README's tables are made from",
                "~/.cache/libvirt-conformance": "the cache; all of it can be deleted while nothing runs",
            },
        }
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for group in (matrix, searches, bench, engine, modes, doctor, jobs, records):
    app.add_typer(group.app)
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run the command line; an error is one message that says what to do, and SIGTERM ends it as ctrl-C does."""
    try:
        with signals.as_ctrl_c():
            app()
    except ContractError as error:
        sys.exit(_say(error, EXIT_USAGE))
    except HarnessError as error:
        sys.exit(_say(error, EXIT_CANNOT_RUN))
    except ImageFailure as error:  # where no test answers for it, such as in a benchmark
        sys.exit(_say(HarnessError(f"the image failed: {error}", "find out how: conformance matrix"), EXIT_CANNOT_RUN))
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)


def _say(error: Exception, status: int) -> int:
    typer.echo(f"error: {error}", err=True)
    return status
