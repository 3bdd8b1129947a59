"""Sentences of Markdown pages."""

import pytest

from conformance.report import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A guest boots. It runs! Does it?", ["A guest boots.", "It runs!", "Does it?"]),
        ("A guest\nboots,   and\nruns.", ["A guest boots, and runs."]),
        ("**It is open.** *Really.* (Yes.) So.", ["**It is open.**", "*Really.*", "(Yes.)", "So."]),
        ("Version 0.9.3 of `a.b` or a.b works.", ["Version 0.9.3 of `a.b` or a.b works."]),
        ("A container loses:\n\n- saves;\n- keys. All.\n", ["A container loses:", "saves;", "keys.", "All."]),
        ("1. First.\n   Still.\n2. Second.", ["First.", "Still.", "Second."]),
        ("Twice. Twice.", ["Twice."]),
        ("| Name | Effect |\n| --- | --- |\n| `A` | on. Off. |\n| `B` | |\n", ["`A` | on. Off.", "`B` | "]),
        ("# A heading.\n\nText.", ["Text."]),
        ("Text:\n\n```sh\nnot. this\n```\n\n<!-- nor. this -->\nMore.", ["Text:", "More."]),
        ("<!-- generated: modes -->\nNot this.\n<!-- end of generated -->\n\nThis.", ["This."]),
    ],
)
def test_a_page_is_split(text: str, expected: list[str]) -> None:
    assert sentences.split(text) == expected
