"""Promises of the documentation, their checks, and each kind of gap."""

from pathlib import Path

import pytest

from conformance.errors import ContractError
from conformance.report import claims
from conformance.report.claims import Page

PROMISE = "Guests have a clock."
CHECK = "clock::test_it_ticks"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one page of two sentences, one suite with one test, and one test of its own."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "test_clock.py").write_text("def test_it_ticks() -> None: ...\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_log.py").write_text("def test_lines() -> None: ...\n\n\nlater = test_lines\n")
    (tmp_path / "page.md").write_text(f"# Clock\n\n{PROMISE} Clocks are old.\n")
    return tmp_path


def problems(project: Path, page: Page, name: str = "page.md") -> list[tuple[str, str]]:
    return [(gap.problem, gap.subject) for gap in claims.gaps({name: page}, project)]


def test_the_projects_documentation_has_no_gap() -> None:
    assert [str(gap) for gap in claims.gaps(claims.load())] == []


@pytest.mark.parametrize("check", [CHECK, "tests/test_log.py::test_lines"])
def test_a_judged_page_has_no_gap(project: Path, check: str) -> None:
    assert problems(project, Page(promises={PROMISE: (check,)}, other=("Clocks are old.",))) == []


def test_a_new_sentence_needs_a_judgement(project: Path) -> None:
    page = Page(promises={PROMISE: (CHECK,)})
    assert problems(project, page) == [("sentence without judgement", "Clocks are old.")]


def test_a_sentence_has_one_judgement(project: Path) -> None:
    page = Page(promises={PROMISE: (CHECK,)}, other=(PROMISE, "Clocks are old."))
    assert problems(project, page) == [("sentence with two judgements", PROMISE)]


@pytest.mark.parametrize("gone", [Page(promises={"Gone.": (CHECK,)}), Page(other=("Gone.",))])
def test_a_judgement_goes_with_its_sentence(project: Path, gone: Page) -> None:
    (project / "page.md").write_text("# Clock\n")
    assert problems(project, gone) == [("judged sentence is not in the page", "Gone.")]


def test_a_promise_needs_a_check(project: Path) -> None:
    page = Page(promises={PROMISE: ()}, other=("Clocks are old.",))
    assert problems(project, page) == [("promise without a check", PROMISE)]


@pytest.mark.parametrize("check", ["clock::test_it_tocks", "watch::test_it_ticks", "tests/test_log.py::test_later"])
def test_a_check_exists(project: Path, check: str) -> None:
    page = Page(promises={PROMISE: (check,)}, other=("Clocks are old.",))
    assert problems(project, page) == [("check does not exist", check)]


def test_the_contracts_sentences_are_its_features_claims(project: Path) -> None:
    (project / "contract.toml").write_text('[[features]]\nid = "clock"\ntitle = "Clock"\nclaim = "A clock. It ticks"\n')
    assert problems(project, Page(promises={"A clock. It ticks": (CHECK,)}), "contract.toml") == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("not toml", "claims.toml is invalid"),
        ('["page.md".promises]\n"A." = ["no check"]\n', "no check"),
        ('["page.md"]\nothers = []\n', "others"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_reason(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "claims.toml"
    file.write_text(text)
    with pytest.raises(ContractError, match=named):
        claims.load(file)


def test_a_page_that_does_not_exist_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"none\.md, which claims\.toml names"):
        list(claims.gaps({"none.md": Page()}, tmp_path))
