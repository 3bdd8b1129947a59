"""The command that lists promises."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.cli.main import app
from conformance.report import claims


def test_promises_are_listed_with_their_checks_within_80_columns() -> None:
    result = CliRunner().invoke(app, ["claims", "docs/image.md"])
    assert result.exit_code == 0
    assert "On SIGTERM, guests are shut down by ACPI." in result.output
    assert "::test_guests_are_asked_by_acpi_and_have_a_deadline" in result.output
    assert all(len(line) <= 80 for line in result.output.splitlines() if "::" not in line)


def test_json_has_pages_and_gaps() -> None:
    result = CliRunner().invoke(app, ["claims", "docs/networking.md", "--json"])
    printed = json.loads(result.output)
    assert [*printed["pages"]] == ["docs/networking.md"]
    assert printed["gaps"] == []


def test_a_gap_is_a_failure_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gap = claims.Gap("docs/image.md", "promise without a check", "It flies.", "write a check")
    monkeypatch.setattr(claims, "gaps", lambda _pages: iter([gap]))
    result = CliRunner().invoke(app, ["claims"])
    assert result.exit_code == 1
    assert "docs/image.md: promise without a check: It flies.\n  what to do: write a check" in result.output


def test_an_unknown_page_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["claims", "docs/none.md"])
    assert result.exit_code == 4
    assert "claims.toml has no page docs/none.md" in result.output
