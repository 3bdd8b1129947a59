"""What help says beside options, in the sections that manual pages have."""

from collections.abc import Mapping

from rich.markup import escape

EXAMPLES = "Examples"
STATUS = "Exit status"
ENVIRONMENT = "Environment"
FILES = "Files"

COMMON_STATUS = {"2": "a bad option or name", "6": "nothing can run; the message says what to do", "130": "interrupted"}
"""What any command may end with beside its own; the matrix ends with pytest's."""

WIDTH = 72
"""What a terminal of 80 columns has for words and their meanings, beside margins and the space between."""


def manual(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Write sections, each a list of words and what they mean, for the end of a command's help.

    >>> print(manual({"Files": {"results/": "the records"}}))
    [bold]Files[/bold]
      results/  the records
    """
    return "\n\n".join(_section(title, rows) for title, rows in sections.items())


def _section(title: str, rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    # Beside each other where that fits, else below each other: the terminal would break the line at its margin.
    fits = width + max(map(len, rows.values())) <= WIDTH
    lines = (
        escape(f"  {word:<{width}}  {meaning}" if fits else f"  {word}\n      {meaning}")
        for word, meaning in rows.items()
    )
    return "\n".join([f"[bold]{title}[/bold]", *lines])
