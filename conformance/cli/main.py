"""The command line: ``conformance --help``."""

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from conformance.cli import bench, doctor, engine, jobs, lab, matrix, modes, records, searches, status
from conformance.cli.manual import COMMON_STATUS, ENVIRONMENT, EXAMPLES, FILES, STATUS, manual
from conformance.errors import ContractError, HarnessError, ImageFailure
from conformance.util import logs, signals
from conformance.util.progress import Progress

app = typer.Typer(
    cls=status.CommandGroup,
    help="Test libvirt in a container with real guests, record the results, and write the tables.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "what can be tested on this machine",
                "conformance matrix -m kvm --mode privileged": "test one feature in one mode",
                "conformance COMMAND --help": "details of a command",
                "conformance --install-completion": "shell completion for commands, modes and labs",
            },
            STATUS: {"0": "success", "1": "a check failed", "3": "a defect of this program"} | COMMON_STATUS,
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


for group in (matrix, searches, bench, engine, modes, doctor, jobs, records):
    app.add_typer(group.app)
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run the command line; report an error in one message with a remedy; handle SIGTERM like ctrl-C."""
    end = logs.begin()
    try:
        with signals.as_ctrl_c():
            app()
    except ContractError as error:
        sys.exit(_report(error, status.USAGE))
    except HarnessError as error:
        sys.exit(_report(error, status.CANNOT_RUN))
    except ImageFailure as error:  # outside of tests, such as in a benchmark
        sys.exit(
            _report(
                HarnessError(f"the image failed: {error}", "find the failing checks: conformance matrix"),
                status.CANNOT_RUN,
            )
        )
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(status.INTERRUPTED)
    except Exception:
        traceback.print_exc()
        typer.echo(f"error: this is a defect of conformance; please report it{logs.footer()}", err=True)
        sys.exit(status.INTERNAL_ERROR)
    finally:
        end()


def _report(error: Exception, exit_status: int) -> int:
    """Print an error, with the log file where that helps; returns the exit status."""
    footer = "" if exit_status == status.USAGE else logs.footer()
    typer.echo(f"error: {error}{footer}", err=True)
    return exit_status
