"""The sentences of a Markdown page."""

import re
from collections.abc import Iterable, Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

from conformance.report.markdown import BLOCK

END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][*)\"])|(?<=[.!?]\*\*)) ")
"""The space after a sentence, whose full stop may have emphasis, a bracket or a quotation mark behind it."""

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")


def split(text: str) -> list[str]:
    """Return each sentence once, in the page's order, with its Markdown marks, and with single spaces.

    An item of a list begins a sentence, and a row of a table is one. Headings, heads of tables, blocks of code,
    comments and generated blocks have none.
    """
    blocks = _blocks(PARSER.parse(BLOCK.sub("", text)))
    return list(dict.fromkeys(sentence for block in blocks for sentence in block if sentence))


def _blocks(tokens: Iterable[Token]) -> Iterator[list[str]]:
    """Yield the sentences of each paragraph and of each row."""
    inside = ""
    row: list[str] = []
    for token in tokens:
        if token.type in ("paragraph_open", "heading_open", "thead_open", "td_open"):
            inside = token.type
        elif token.type == "tbody_open":
            inside = ""
        elif token.type == "tr_close":
            yield [" | ".join(row)]
            row = []
        elif token.type == "inline" and inside == "td_open":
            row.append(_folded(token.content))
        elif token.type == "inline" and inside == "paragraph_open":
            yield END.split(_folded(token.content))


def _folded(text: str) -> str:
    return " ".join(text.split())
