import base64
import hashlib
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from PIL import Image as Picture
from typer.testing import CliRunner

from conformance.cli import main, status
from conformance.model.contract import Contract
from conformance.model.record import Host, Image, Record, Recorder
from conformance.model.verdict import Verdict
from conformance.report import html
from conformance.report.page.cells import HISTORY

Make = Callable[..., Record]

EVIL = "\"'><script>alert(1)</script><img src=//x.example/a onerror=alert(1)>&lt;{{ 7 * 7 }}\x1b[2J\u202e\x00"


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and the text in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def section(self, name: str) -> str:
        """Return the source from the section of a name to the next section."""
        begin = self.source.index(f'<section class="opens" id="{name}"')
        return self.source[begin : self.source.find("<section", begin + 1)]


def guest(**changes: Any) -> dict[str, Any]:
    boot = [{"event": "boot", "kernel": "6.12"}]
    return {
        "domain": "probe-1", "firmware": "bios", "kvm": {}, "seconds": 1.5, "xml": "<domain>1</domain>", "report": boot,
    } | changes  # fmt: skip


def png() -> str:
    made = io.BytesIO()
    Picture.new("RGB", (8, 8)).save(made, format="PNG")
    return base64.b64encode(made.getvalue()).decode()


@pytest.fixture
def render(contract: Contract) -> Callable[..., Page]:
    return lambda *records: Page(html.render(contract, records))


def test_a_page_without_records(render: Callable[..., Page]) -> None:
    assert "Nothing has been recorded yet." in render().text


def test_the_same_records_make_the_same_page(contract: Contract, make_record: Make) -> None:
    fixed = make_record(time=datetime(2026, 1, 1, tzinfo=UTC))
    assert html.render(contract, [fixed]) == html.render(contract, [fixed])


def test_each_cell_opens_its_evidence(contract: Contract, make_record: Make, render: Callable[..., Page]) -> None:
    evidence = {
        "error": "it broke\nconsole ends with:\nGRUB rescue>",
        "screen": "Memtest86+",
        "guests": [guest(screenshot=png())],
    }
    failed = make_record(
        verdict=Verdict.FAILS, reason="it broke", cause="cgroup-read-only", seconds=12.5, accel="tcg", evidence=evidence
    )
    made = render(failed)
    name = "docker-1.unprivileged.iso"
    assert f"#{name}" in made.all("href")
    opened = made.section(name)
    for shown in ("GRUB rescue>", "Memtest86+", "cgroup-read-only", "12.5 s", failed.run):
        assert shown in opened, shown
    assert 'href="#docker-1.guest.0"' in opened
    boot = made.section("docker-1.guest.0")
    for shown in ("&lt;domain>1&lt;/domain>", "data:image/webp;base64,", "6.12", "under emulation", f'href="#{name}"'):
        assert shown in boot, shown


def test_a_mode_opens_its_container_and_its_cells(make_record: Make, render: Callable[..., Page]) -> None:
    made = render(make_record(verdict=Verdict.FAILS, reason="it broke"))
    opened = made.section("docker-1.unprivileged")
    for shown in ("docker run", "--device=/dev/kvm", "it broke", 'href="#docker-1.unprivileged.iso"'):
        assert shown in opened, shown
    assert "--restart" not in opened  # who runs it wants to see the failure, not a loop
    assert 'id="docker-1.unprivileged.nat"' in opened, "a cell without records has its name here"


def test_each_link_leads_somewhere_and_each_id_is_there_once(make_record: Make, render: Callable[..., Page]) -> None:
    made = render(make_record(evidence={"guests": [guest()]}), make_record(host=Host(name="other", fingerprint={})))
    ids = made.all("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in made.all("href")} <= set(ids)


def test_a_known_failure_names_its_source(contract: Contract, make_record: Make, render: Callable[..., Page]) -> None:
    known = contract.known_failures[0]
    mode = known.modes[0]
    made = render(
        make_record(feature=known.feature, mode=mode, verdict=Verdict.KNOWN_FAILURE, cause=known.cause, reason="raw")
    )
    assert escape(known.source) in made.section(f"docker-1.{mode}.{known.feature}")


def test_a_guest_that_answered_for_several_checks_is_there_once(make_record: Make, render: Callable[..., Page]) -> None:
    later = guest(report=[{"event": "boot", "kernel": "6.12"}, {"event": "end"}])
    made = render(
        make_record(evidence={"guests": [guest()]}),
        make_record(feature="nat", evidence={"guests": [later, later]}),
    )
    assert made.source.count("&lt;domain>") == 1
    assert made.source.count('{"event": "end"}') == 1
    assert len(re.findall(r'href="#docker-1\.unprivileged\.(iso|nat)"', made.section("docker-1.guest.0"))) == 2


def test_of_a_definition_like_an_earlier_one_only_the_other_lines_are_there(
    make_record: Make, render: Callable[..., Page]
) -> None:
    xml = "<domain>\n  <name>probe-{0}</name>\n  <vcpu>1</vcpu>\n</domain>"
    made = render(
        make_record(evidence={"guests": [guest(domain="probe-0123abcd", xml=xml.format("0123abcd"))]}),
        make_record(feature="nat", evidence={"guests": [guest(domain="probe-4567cdef", xml=xml.format("4567cdef"))]}),
        make_record(feature="lifecycle", evidence={"guests": [guest(domain="other", xml=xml.format("4567cdef\n"))]}),
    )
    assert "\t&lt;name>probe-0123abcd&lt;/name>\n\t&lt;vcpu>1" in made.section("docker-1.guest.0")
    later = made.section("docker-1.guest.1")
    assert 'href="#docker-1.guest.0"' in later
    assert "<pre>\t&lt;name>probe-4567cdef&lt;/name></pre>" in later
    assert "vcpu" in made.section("docker-1.guest.2"), "it has another line"


def test_checks_with_the_same_evidence_are_together(make_record: Make, render: Callable[..., Page]) -> None:
    failed = {"verdict": Verdict.FAILS, "reason": "it broke", "evidence": {"error": "a long console"}}
    made = render(
        make_record(check="test_a"), make_record(check="test_b", **failed), make_record(check="test_c", **failed)
    )
    opened = made.section("docker-1.unprivileged.iso")
    assert opened.count("a long console") == 1
    assert re.findall(r"test_\w", opened) == ["test_b", "test_c", "test_a"], "failures come first"


def test_an_on_request_feature_has_a_note(contract: Contract, make_record: Make, render: Callable[..., Page]) -> None:
    made = render(make_record())
    reason = contract.feature("install-windows").on_request
    assert reason
    assert reason in made.section("docker-1.privileged")


# ---------------------------------------------------------------------------------------------- history


def test_the_history_of_a_cell_is_listed_newest_first(
    contract: Contract, make_record: Make, render: Callable[..., Page]
) -> None:
    made = render(
        *(
            make_record(
                run=f"{number:03}",
                time=datetime(2026, 1, 1 + number, tzinfo=UTC),
                verdict=Verdict.FAILS if number % 2 else Verdict.WORKS,
                host=Host(name="docker-1", fingerprint={"kernel": f"6.{number}"}),
            )
            for number in range(HISTORY + 3)
        )
    )
    opened = made.section("docker-1.unprivileged.iso")
    days = re.findall(r"(2026-\d\d-\d\d) \d\d:\d\d \(", opened)
    assert days == sorted(days, reverse=True)
    assert len(days) == HISTORY
    assert "Older runs: 3." in opened
    assert "<td>6.22</td>" in made.source, "the runs are listed with their hosts"


def test_the_changes_by_the_newest_run_are_listed(
    contract: Contract, make_record: Make, render: Callable[..., Page]
) -> None:
    before = datetime(2026, 1, 1, 5, tzinfo=UTC)
    made = render(
        make_record(run="1", time=before),
        make_record(run="1", time=before, feature="nat"),
        make_record(
            run="2", verdict=Verdict.FAILS, reason="no OVMF", host=Host(name="docker-1", fingerprint={"kernel": "7.0"})
        ),
    )
    assert "Since 2026-01-01 05:00 UTC" in made.text
    assert "Newly failing" in made.text
    assert re.search(r"ISO boot, unprivileged\s+test_boot: works → fails: no OVMF", made.text)
    assert "kernel: 6.1 → 7.0" in made.text
    assert "Removed" not in made.text, "what the newest run did not ask is as it was"
    number = [one.id for one in contract.modes].index("unprivileged")
    changed = [one.split() for one in made.all("class") if "changed" in one.split()]
    assert changed == [["h0", f"m{number}", "fails", "bad", "changed", "first"]]


def test_a_first_run_changed_nothing(make_record: Make, render: Callable[..., Page]) -> None:
    assert "This is the first recorded run." in render(make_record()).text


def test_a_flaky_cell_has_counts(contract: Contract, make_record: Make, render: Callable[..., Page]) -> None:
    made = render(
        make_record(run="1", asked="q"),
        make_record(
            run="2", asked="q", verdict=Verdict.FAILS, reason="no carrier", evidence={"error": "ends with: eth0"}
        ),
        make_record(run="3", asked="q"),
    )
    assert "flaky: works 2 of 3" in made.text
    opened = made.section("docker-1.unprivileged.iso")
    for shown in ("no carrier", "Other runs with different verdicts", "ends with: eth0"):
        assert shown in opened, shown


# ------------------------------------------------------------------------------------- untrusted records


def test_text_of_records_is_never_markup(make_record: Make, render: Callable[..., Page]) -> None:
    seen_guest = guest(domain=EVIL, xml=EVIL, firmware=EVIL, seconds=EVIL, report=[{EVIL: EVIL}], screenshot=EVIL)
    made = render(
        *(
            make_record(
                run=run,
                host=Host(name="docker-1", fingerprint={"os": EVIL, "kernel": EVIL + run, EVIL: EVIL + run}),
                image=Image(tag=EVIL, id=EVIL, base=EVIL, versions={EVIL: EVIL}),
                check=EVIL,
                checks=(EVIL,),
                verdict=verdict,
                cause=EVIL,
                reason=EVIL,
                evidence={EVIL: EVIL, "error": EVIL + EVIL, "before": [EVIL], "guests": [seen_guest, EVIL, 7]},
            )
            for run, verdict in (("1", Verdict.WORKS), ("2", Verdict.FAILS))
        )
    )
    tags = {tag for tag, _ in made.elements}
    assert "script" not in tags
    assert "img" not in tags
    assert not [name for _, attributes in made.elements for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in made.text
    assert made.text.count("alert(1)") > 20, "it is there as text"
    assert not set("\x1b\x00\u202e") & set(made.source)


@pytest.mark.parametrize("kept", ["", "%", 7, None, base64.b64encode(b"<svg onload=alert(1)>").decode(), png()[:60]])
def test_an_invalid_screenshot_is_left_out(make_record: Make, render: Callable[..., Page], kept: object) -> None:
    assert "img" not in {tag for tag, _ in render(make_record(evidence={"guests": [guest(screenshot=kept)]})).elements}


def test_evidence_of_another_shape_is_no_error(make_record: Make, render: Callable[..., Page]) -> None:
    shapes: list[object] = [None, [], "text", {"a": 1}, 7, [{}], [guest(report={"no": "list"})]]
    for guests in shapes:
        render(make_record(evidence={"guests": guests}))


def test_the_page_forbids_itself_scripts_and_the_network(make_record: Make, render: Callable[..., Page]) -> None:
    made = render(make_record(evidence={"guests": [guest(screenshot=png())]}))
    (policy,) = made.all("content")[:1]
    style = made.source[made.source.index("<style>") + len("<style>") : made.source.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"style-src 'sha256-{digest}'" in policy
    assert {link[:1] for link in made.all("href")} == {"#"}
    assert all(source.startswith("data:image/webp;base64,") for source in made.all("src"))
    assert "url(" not in style
    assert "@import" not in style
    assert "style" not in {name for _, attributes in made.elements for name in attributes}


# ------------------------------------------------------------------------------------- the command line


def test_the_report_is_one_file(make_record: Make, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "records", "docker-1", "1")
    recorder.append(make_record())
    output = tmp_path / "out.html"
    words = ["report", "--results", str(tmp_path / "records"), "--output", str(output)]
    done = CliRunner().invoke(main.app, words)
    assert done.exit_code == 0, done.output
    assert output.read_text().startswith("<!DOCTYPE html>")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.html", "records"]


@pytest.mark.parametrize("found", ["empty folder", "empty file"])
def test_a_report_of_nothing_is_an_error(found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, output = tmp_path / "records", tmp_path / "out.html"
    if found == "empty folder":
        place.mkdir()
    else:
        place.touch()
    done = CliRunner().invoke(main.app, ["report", "--results", str(place), "--output", str(output)])
    assert done.exit_code == status.USAGE
    assert "no records in" in done.output
    assert "matrix" in done.output, "the remedy"
    assert not output.exists()


def test_a_report_that_cannot_be_written_is_an_error(
    make_record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(tmp_path, "docker-1", "1").append(make_record())
    output = tmp_path / "nowhere" / "out.html"
    monkeypatch.setattr("sys.argv", ["conformance", "report", "--results", str(tmp_path), "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 6
    assert f"cannot write {output}" in capsys.readouterr().err
