"""Mutants of the shell scripts: each command deleted, each condition negated, each number, owner and mode changed."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from conformance.mutation.mutant import ImageFiles, Mutant

_LANGUAGE = Language(tree_sitter_bash.language())

_UNKNOWN = re.compile(rb"""(?<=\$\{)\w+/'[^'\n]*'/"[^"\n]*"(?=\})|!\(\w+\)""")
"""Replacements with quoted texts, and patterns of extglob, which the grammar cannot parse; names of the same length
stand for them."""

PACE = ("sleep", "pause", "timeout", "ask", "tries")
"""Commands and variables whose numbers only set a pace or a deadline; another one is no defect while nothing hangs."""

STATEMENTS = ("command", "declaration_command", "variable_assignment", "test_command", "compound_statement")
"""Parts of a script that the shell traces as one."""

ATTRIBUTES = ("chmod", "chown", "chgrp", "install")
"""Commands that set owners and modes of files."""

INERT = ("shopt", "local", "readonly", "declare", "export", "set", "trap", ":", "true")
"""Commands whose deletion hides no action of the image, or an action that other mutants hide too."""


def shell(files: ImageFiles) -> Iterator[Mutant]:
    """Change each script in each place; changes that bash cannot parse are left out."""
    for file, text in files.items():
        if text.startswith(("#!/bin/bash", "#!/bin/sh")):
            for mutant in _script(file, text.encode()):
                if _parses(mutant.files[file]):
                    yield mutant


def _parses(script: str) -> bool:
    words = ["bash", "-O", "extglob", "-n"]  # the entrypoint sets extglob, which -n does not run
    return subprocess.run(words, input=script, text=True, capture_output=True, check=False).returncode == 0


def _script(file: str, source: bytes) -> Iterator[Mutant]:
    seen: Counter[tuple[str, str, str]] = Counter()
    known = _UNKNOWN.sub(lambda found: b"x" * len(found[0]), source)
    for node in _walk(Parser(_LANGUAGE).parse(known).root_node):
        for change, start, end, new in _changes(node):
            old = source[start:end].decode()
            function = _function(node)
            seen[function, change, old] += 1
            count = seen[function, change, old]
            line = " ".join(old.split())
            ordinal = f" (number {count})" if count > 1 else ""
            where = f"in {function}" if function else "outside of functions"
            yield Mutant(
                "shell",
                file,
                f"{function}: {line}{ordinal}",
                change if change != "changed" else f"to {new.decode()}",
                f"{file}, {where}: {_words(change, line, new.decode())}{ordinal}",
                {file: (source[:start] + new + source[end:]).decode()},
                lines=_lines(node),
            )


def _words(change: str, line: str, new: str) -> str:
    short = line if len(line) <= 100 else f"{line[:99]}…"
    return f"`{short}` is {new}" if change == "changed" else f"`{short}` is {change}"


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.named_children:
        yield from _walk(child)


Change = tuple[str, int, int, bytes]
"""Its name, the first byte, the byte after the last one, and the new text."""


def _changes(node: Node) -> Iterator[Change]:
    if node.type == "command" and not _begins_with(node, INERT):
        yield _deletion(node)
    if _is_condition(node):
        yield _negation(node)
    if node.type in ("number", "word") and (number := _text(node)).isdecimal() and _counts(node):
        yield "changed", node.start_byte, node.end_byte, b"0" if int(number) else b"1"
    if node.type in ("number", "word") and (other := _attribute(node)):
        yield "changed", node.start_byte, node.end_byte, other.encode()


def _deletion(node: Node) -> Change:
    """Delete a command with its redirections, or a whole pipeline at its first command."""
    whole = node
    while whole.parent and (
        (whole.parent.type == "redirected_statement" and whole.parent.child_by_field_name("body") == whole)
        or (whole.parent.type == "pipeline" and whole.parent.named_children[0] == whole)
    ):
        whole = whole.parent
    return "deleted", whole.start_byte, whole.end_byte, b":"


def _negation(node: Node) -> Change:
    start, end, text = node.start_byte, node.end_byte, _text(node)
    if text.startswith("! "):
        return "negated", start, end, text[2:].encode()
    return "negated", start, end, b"! " + text.encode()


def _is_condition(node: Node) -> bool:
    """Return whether the node is a test, or a command that an if or a loop has as its condition."""
    if node.parent and node.parent.type == "negated_command":
        return False
    if node.type == "test_command" or (node.type == "compound_statement" and _text(node).startswith("((")):
        return True
    head = node.parent and node.parent.type in ("if_statement", "elif_clause", "while_statement")
    if head and node.type in ("command", "negated_command"):
        return node.parent is not None and node.parent.child_by_field_name("condition") == node
    return node.type == "negated_command"


def _attribute(node: Node) -> str:
    """Return another owner or mode for an argument that sets one; empty for any other word."""
    if not (node.parent and node.parent.type == "command" and _begins_with(node.parent, ATTRIBUTES)):
        return ""
    text = _text(node)
    if re.fullmatch(r"(--mode=)?[0-7]{3}", text):
        return text[:-3] + "700"
    return text.replace("libvirt", "root") if re.fullmatch(r"libvirt:libvirt|--(owner|group)=libvirt", text) else ""


def _counts(node: Node) -> bool:
    """Return whether a number is more than a file descriptor, a pace, a file mode or a key of an array."""
    above = node.parent
    while above is not None and above.type not in ("command", "function_definition", "program"):
        if above.type in ("file_redirect", "subscript", "expansion", "string", "variable_assignments"):
            return False
        if above.type == "variable_assignment" and _text(above).startswith(PACE):
            return False
        above = above.parent
    return above is None or above.type != "command" or not _begins_with(above, (*PACE, *ATTRIBUTES, "trap"))


def _lines(node: Node) -> tuple[int, int]:
    """Return the first and the last line of the statement that a node belongs to."""
    whole = node
    while whole.parent and whole.type not in STATEMENTS:
        whole = whole.parent
    return whole.start_point[0] + 1, whole.end_point[0] + 1


def _begins_with(node: Node, names: tuple[str, ...]) -> bool:
    name = node.child_by_field_name("name")
    return name is not None and _text(name) in names


def _function(node: Node) -> str:
    above: Node | None = node
    while above is not None and above.type != "function_definition":
        above = above.parent
    name = above.child_by_field_name("name") if above else None
    return _text(name) if name else ""


def _text(node: Node) -> str:
    return (node.text or b"").decode()
