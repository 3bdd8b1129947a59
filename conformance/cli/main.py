"""The command line: ``conformance --help``."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from conformance.cli import bench, doctor, engine, jobs, lab, matrix, modes, mutate, records, searches
from conformance.cli.manual import COMMON_STATUS, ENVIRONMENT, EXAMPLES, FILES, STATUS, manual
from conformance.errors import ContractError, HarnessError, ImageFailure
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.util import logs, signals
from conformance.util.progress import Progress

EXIT_USAGE = 2

app = typer.Typer(
    help="Test libvirt in a container with real guests, record the results, and write the tables.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "what can be tested on this machine",
                "conformance matrix -m kvm --mode privileged": "test one feature in one mode",
                "conformance COMMAND --help": "details of a command",
                "conformance --install-completion": "shell completion for commands, modes and labs",
            },
            STATUS: {"0": "success", "1": "a check failed"} | COMMON_STATUS,
            ENVIRONMENT: {
                "DOCKER_HOST, DOCKER_CONTEXT": "the container engine, as for the docker command",
                "CONFORMANCE_CACHE": "the folder for downloads, media, labs and the private engine",
                "CONFORMANCE_DEBIAN_MIRROR": "the Debian mirror to use instead of apt's",
                "NO_COLOR": "no colours unless empty",
            },
            FILES: {
                "contract.toml": "features, modes, known failures",
                "results/": "the records behind the README's tables",
                "~/.cache/libvirt-conformance": "the cache; can be deleted while nothing runs",
            },
        }
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"conformance {version('libvirt-conformance')}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="show the log's debug lines on stderr")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    if verbose:
        logs.show(Progress())


for group in (matrix, searches, mutate, bench, engine, modes, doctor, jobs, records):
    app.add_typer(group.app)
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run the command line; report an error in one message with a remedy; handle SIGTERM like ctrl-C."""
    end = logs.begin()
    try:
        with signals.as_ctrl_c():
            app()
    except ContractError as error:
        sys.exit(_report(error, EXIT_USAGE))
    except HarnessError as error:
        sys.exit(_report(error, EXIT_CANNOT_RUN))
    except ImageFailure as error:  # outside of tests, such as in a benchmark
        sys.exit(
            _report(
                HarnessError(f"the image failed: {error}", "find the failing checks: conformance matrix"),
                EXIT_CANNOT_RUN,
            )
        )
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    finally:
        end()


def _report(error: Exception, status: int) -> int:
    """Print an error, with the log file where that helps; returns the exit status."""
    footer = "" if status == EXIT_USAGE else logs.footer()
    typer.echo(f"error: {error}{footer}", err=True)
    return status
