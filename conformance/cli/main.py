"""The command line: ``conformance --help``."""

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from conformance.cli import (
    bench,
    claims,
    doctor,
    engine,
    jobs,
    lab,
    matrix,
    modes,
    mutate,
    records,
    searches,
    smoke,
    status,
)
from conformance.cli.manual import COMMON_STATUS, ENVIRONMENT, EXAMPLES, STATUS, manual
from conformance.errors import BadOption, ContractError, HarnessError, ImageFailure
from conformance.util import logs, signals
from conformance.util.progress import Progress

app = typer.Typer(
    cls=status.CommandGroup,
    help="Test libvirt in a container with real guests, and record the results.",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance doctor": "which mode to use on this machine",
                "conformance smoke": "test the essentials in that mode",
            },
            STATUS: {"0, 1, 5": "success; a check failed; no verdict"}
            | COMMON_STATUS
            | {"3": "a defect of this program"},
            ENVIRONMENT: {
                "DOCKER_HOST, DOCKER_CONTEXT": "container engine, as for docker",
                "CONFORMANCE_CACHE": "default: ~/.cache/libvirt-conformance",
                "CONFORMANCE_DEBIAN_MIRROR": "Debian mirror to use instead of apt's",
                "NO_COLOR": "no colours unless empty",
            },
        }
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
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


for group in (doctor, smoke, matrix, modes, records, claims, engine, searches, mutate, bench, jobs):
    app.add_typer(group.app)
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run the command line; report an error in one message with a remedy; handle SIGTERM like ctrl-C."""
    end = logs.begin()
    try:
        with signals.as_ctrl_c():
            app()
    except (ContractError, BadOption) as error:
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
