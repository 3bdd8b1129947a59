"""The doctor's findings on a terminal, and the mode to use."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from conformance.doctor.finding import Finding, Report, State
from conformance.engine import base_image, image
from conformance.model import commands
from conformance.model.mode import Mode
from conformance.util import paths

STYLES: dict[State, str] = {"OK": "green", "MISSING": "bold red", "N/A": "yellow"}

PIPE_WIDTH = 80
"""Columns of an output that is no terminal."""

INDENT = 9

ON_PRIVATE = (
    "A private engine stops at the end of a run. To keep a container, start Docker (sudo systemctl start docker),"
    f" run {paths.COMMAND} smoke on it, and start the image:"
)


def show(report: Report) -> None:
    """Print the doctor's findings; rich decides on colours by NO_COLOR and the type of the output."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)
    for one in report.findings:
        first, *more = _wrapped(f"{one.title}: {one.seen}", console.width)
        console.print(Text(f"{one.state:<{INDENT}}", style=STYLES[one.state]), Text(first), sep="")
        for line in (*more, *(line for text in _consequences(one) for line in _wrapped(text, console.width))):
            console.print(Text(" " * INDENT + line, style="dim" if one.state == "OK" else ""))
    console.print()
    heading, *lines = conclusion(report, console.width)
    console.print(Text(heading, style="bold" if report.recommended_runs else "bold red"))
    for line in lines:
        console.print(Text(line))


def conclusion(report: Report, width: int) -> list[str]:
    """Return the lines below the findings: the mode to use, and its command.

    Args:
        report: the findings.
        width: columns of the terminal.
    """
    if report.mode is None:
        return ["No mode can run on this machine: see MISSING above."]
    lines = textwrap.wrap(_heading(report, report.mode), width)
    lines += ["", *_build(report, width)] if report.private or report.image != image.TAG else []
    other = "" if report.recommends(report.mode) else f" --mode {report.mode.id}"
    lines += ["", *command(report.mode, width).splitlines(), "", f"Test it in a minute: {paths.COMMAND} smoke{other}"]
    if not report.everything_runs:
        lines += textwrap.wrap(f"A virtual machine has all that is MISSING: {paths.COMMAND} matrix --host lab", width)
    return lines


def _build(report: Report, width: int) -> list[str]:
    """Return the lines that lead to an image on the user's engine."""
    if report.private:
        return textwrap.wrap(ON_PRIVATE, width)
    if report.image == base_image.MADE_BASE:
        return [f"Build the image first, on the base that {paths.COMMAND} made:", _build_command(report.image)]
    without = f"Where no registry answers, {paths.COMMAND} smoke builds it on a base from Debian packages."
    return [f"Build the image first: {_build_command()}", *textwrap.wrap(without, width)]


def _build_command(base: str = "") -> str:
    """Return the shell command that builds the project's image, on a base of its Dockerfile's choice or another one."""
    on = f"--build-arg BASE_IMAGE={base} " if base else ""
    return f"docker build --tag {image.TAG} {on}{_folder()}"


def command(mode: Mode, width: int, tag: str = image.TAG) -> str:
    """Return the shell commands that start a container of an image, the project's by default, in a mode."""
    run = commands.paragraph(commands.docker_run(mode, tag), width)
    return "\n".join([*commands.preparation(mode, _folder()), run])


def _folder() -> str:
    """Return the path of the image's sources, relative in the checkout itself."""
    return paths.IMAGE.name if Path.cwd() == paths.CHECKOUT else str(paths.IMAGE)


def _heading(report: Report, mode: Mode) -> str:
    if report.recommendation is None:
        reason = "the first one that can run here"
    elif report.recommends(mode):
        reason = f"recommended for hosts with {report.recommendation.host}"
    else:
        reason = f"the recommended mode, {report.recommendation.mode}, cannot run here"
    if report.nothing_runs:
        return f"Nothing can run yet: see MISSING above. Then use mode {mode.id} ({reason})."
    return f"Use mode {mode.id} ({reason})."


def _consequences(one: Finding) -> Iterator[str]:
    if one.means:
        yield one.means
    if one.state != "OK" and one.costs:
        certain = "cannot test" if one.state == "MISSING" else "may not be testable"
        modes = f"mode{'s' if len(one.modes) > 1 else ''} {', '.join(one.modes)}" if one.modes else ""
        yield f"{certain}: {'anything' if one.vital else ', '.join([*one.features, *filter(None, [modes])])}"
    if one.remedy:
        yield f"what to do: {one.remedy}"


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text's lines beside the states; a path or command is never broken."""
    return textwrap.wrap(text, width - INDENT, break_long_words=False, break_on_hyphens=False)
