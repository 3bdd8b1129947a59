"""``conformance claims``: the documentation's promises about the image, and their checks."""

import dataclasses
import textwrap
from typing import Annotated

import typer

from conformance.cli import status
from conformance.cli.manual import COMMON_STATUS, EXAMPLES, FILES, STATUS, manual
from conformance.cli.options import echo_json
from conformance.report import claims
from conformance.util import paths

app = typer.Typer()

WIDTH = 80


@app.command(
    name="claims",
    epilog=manual(
        {
            EXAMPLES: {
                "conformance claims": "list all promises",
                "conformance claims docs/image.md": "those of one page",
            },
            FILES: {"claims.toml": "the judgement of each sentence"},
            STATUS: {"0": "each promise has a check", "1": "a gap"} | COMMON_STATUS,
        }
    ),
)
def claims_(
    page: Annotated[list[str] | None, typer.Argument(help="pages; all by default", metavar="[PAGE]...")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the promises of the documentation, with their checks.

    A gap is a sentence that nobody has judged, a judgement of a sentence that
    is no longer there, a promise without a check, or a check that does not
    exist.
    """
    paths.require_checkout("claims")
    known = claims.load()
    for name in page or ():
        if name not in known:
            raise typer.BadParameter(f"claims.toml has no page {name}: name one of {', '.join(known)}")
    pages = {name: one for name, one in known.items() if not page or name in page}
    gaps = list(claims.gaps(pages))
    if as_json:
        echo_json(
            {
                "pages": {name: one.model_dump(mode="json") for name, one in pages.items()},
                "gaps": [dataclasses.asdict(gap) for gap in gaps],
            }
        )
    else:
        for name, one in pages.items():
            _list(name, one)
        for gap in gaps:
            typer.echo(str(gap), err=True)
    raise typer.Exit(status.FAILED if gaps else 0)


def _list(name: str, page: claims.Page) -> None:
    """Print a page's promises, each above its checks."""
    typer.echo(f"{name}: {len(page.promises)} promises, {len(page.other)} other sentences")
    for sentence, checks in page.promises.items():
        typer.echo(textwrap.fill(sentence, WIDTH, initial_indent="  ", subsequent_indent="  "))
        for check in checks:
            typer.echo(f"      {check}")
    typer.echo()
