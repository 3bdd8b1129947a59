"""The end of a command's help: examples, exit status, environment and files, as in manual pages."""

from collections.abc import Mapping

from rich.markup import escape

EXAMPLES = "Examples"
STATUS = "Exit status"
ENVIRONMENT = "Environment"
FILES = "Files"

COMMON_STATUS = {"2, 4, 6": "interrupted; a bad option or name; nothing can run"}
"""Exit statuses of every command, beside its own."""

WIDTH = 72
"""Characters for words and meanings on a terminal of 80 columns, without margins and the gap."""


def manual(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Return sections, each a list of words with their meanings, for the end of a command's help.

    >>> print(manual({"Files": {"results/": "the records"}}))
    [bold]Files[/bold]
      results/  the records
    """
    return "\n\n".join(_section(title, rows) for title, rows in sections.items())


def _section(title: str, rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    # On one line if that fits, else on two: the terminal would wrap a long line at its margin.
    fits = width + max(map(len, rows.values())) <= WIDTH
    lines = (
        escape(f"  {word:<{width}}  {meaning}" if fits else f"  {word}\n      {meaning}")
        for word, meaning in rows.items()
    )
    return "\n".join([f"[bold]{title}[/bold]", *lines])
