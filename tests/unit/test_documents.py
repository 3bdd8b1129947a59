"""README and docs/: limits, links, anchors, and the commands that they name."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from conformance.cli.main import app
from conformance.model.contract import Contract
from conformance.util import paths

PAGES = [paths.README, *sorted(paths.DOCS.glob("*.md"))]
ALL = [*PAGES, *(paths.PROJECT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
MAX_LINES = 200
MAX_BYTES = 16 * 1024

RUN_ONLY = {"test", "packages"}
"""Commands of ./run that ``conformance`` has not."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = [heading.replace("\\", "") for heading in HEADING.findall(prose(page))]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def snippets(page: Path) -> list[str]:
    """Return each line of a shell block, with its continuations, and each span of code."""
    blocks = [text for language, text in FENCE.findall(page.read_text()) if language in ("", "sh", "console")]
    lines = [line for text in blocks for line in text.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path) -> list[tuple[str, str]]:
    """Return the program and the command of each call of ./run or conformance."""
    calls = [re.search(r"(?:^|[ /;&])(\./run|conformance) +([a-z]+)(?![\w./-])", one) for one in snippets(page)]
    return [(call[1], call[2]) for call in calls if call]


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_each_command_exists(page: Path) -> None:
    known = {*typer.main.get_command(app).commands}  # type: ignore[attr-defined]
    for program, command in commands(page):
        assert command in known | (RUN_ONLY if program == "./run" else set()), f"{page.name}: {program} {command}"


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_each_mode_exists(page: Path, contract: Contract) -> None:
    modes = {one.id for one in contract.modes}
    for snippet in snippets(page):
        for mode in re.findall(r"--mode[ =]([a-z][a-z-]*)", snippet):
            assert mode in modes, f"{page.name}: {snippet}"


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_each_page_is_in_the_readme(page: Path) -> None:
    assert f"](docs/{page.name})" in paths.README.read_text()


def test_the_readme_keeps_its_limits() -> None:
    text = paths.README.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    assert len(text.encode()) <= MAX_BYTES


def test_the_readme_starts_with_a_guest_before_the_tables() -> None:
    headings = HEADING.findall(prose(paths.README))[1:4]
    assert headings == ["Quick start", "Which mode?", "At a glance"]


def test_commands_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`./run nosuch -x`\n\n```sh\nDOCKER_HOST=x ./run \\\n  matrix -m kvm\nconformance modes least\n```\n"
    )
    assert commands(page) == [("./run", "matrix"), ("conformance", "modes"), ("./run", "nosuch")]


def test_shell_blocks_are_shell() -> None:
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            if language == "sh":
                for line in text.replace("\\\n", " ").splitlines():
                    assert shlex.split(line, comments=True) is not None, f"{page.name}: {line}"
