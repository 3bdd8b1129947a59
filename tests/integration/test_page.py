"""The report in a real browser: Debian's Chromium, without scripts of the page's own and without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from conformance.model import contract, record
from conformance.model.record import Record
from conformance.model.verdict import Verdict
from conformance.report import html
from conformance.util import paths

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: ./run test installs it")

Scheme = Literal["light", "dark"]

DESK, PHONE = (1920, 1080), (360, 740)
LONG = "x" * 300


def records() -> Iterator[Record]:
    """Yield what was recorded of one mode, then two runs that give each verdict, a flaky cell, and long words."""
    real = list(record.read(paths.RESULTS))
    first = real[0]
    yield from (one for one in real if (one.host, one.mode) == (first.host, first.mode))
    yield first.model_copy(update={"host": first.host.model_copy(update={"name": "another"})})
    evidence = {"error": LONG, "screen": LONG, "guests": [{"domain": LONG, "xml": LONG, "report": [LONG]}]}
    places = [(feature, mode.id) for feature in ("api", "volumes") for mode in contract.load().modes]
    for run, verdicts in (
        ("99990101T000000Z-a-1", [Verdict.WORKS] * 8),
        ("99990102T000000Z-a-2", [*Verdict, Verdict.FAILS]),
    ):
        for (feature, mode), verdict in zip(places, verdicts, strict=False):
            again = {"run": run, "mode": mode, "feature": feature, "verdict": verdict, "reason": f"{LONG} {LONG}"}
            asked = "the same" if (feature, mode) == places[len(Verdict)] else ""
            yield first.model_copy(update=again | {"asked": asked, "evidence": evidence})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report's address."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html.render(contract.load(), records()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, report: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report, as a reader has it: on a desk in the light, unless the test says otherwise."""
    context = _context(browser, *getattr(request, "param", (DESK, "light")))
    asked: list[str] = []
    context.on("request", lambda one: asked.append(one.url))
    shown = context.new_page()
    complaints: list[str] = []
    shown.on("console", lambda one: complaints.append(one.text))
    shown.goto(report)
    yield shown
    outside = [url for url in asked if url.partition("#")[0] != report and not url.startswith("data:")]
    assert outside == [], "it asks for something beside itself"
    assert complaints == [], "its own policy forbids something that it has"
    context.close()


def _context(browser: Browser, size: tuple[int, int], scheme: Scheme) -> BrowserContext:
    width, height = size
    # Scripts are on for axe-core's sake: the page has none, and its policy lets none run.
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(120_000)
    return context


def overflow(shown: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def violations(shown: Page) -> list[str]:
    """Return what axe-core finds: what of WCAG 2 a machine can see, contrast among it, of all that is visible."""
    found = Axe().run(shown).response["violations"]
    return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]


everywhere = pytest.mark.parametrize(
    "opened", [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"], indirect=True
)


@everywhere
def test_it_can_be_read(opened: Page) -> None:
    assert opened.get_by_role("heading", level=1).inner_text() == "libvirt in a container: what works"
    for verdict in ("works", "fails", "known failure", "fixed", "unsupported", "error", "not run", "flaky"):
        assert opened.locator("td a", has_text=verdict).first.is_visible(), verdict
    assert overflow(opened) <= 0
    opened.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert violations(opened) == []


@everywhere
def test_a_cell_and_its_guest_can_be_read(opened: Page) -> None:
    opened.locator("td a", has_text="error").first.click()
    section = opened.locator(".opens:visible")
    section.locator("summary").first.click()
    assert section.get_by_text("docker run").is_visible()
    assert overflow(opened) <= 0
    assert violations(opened) == []
    section.locator("details a").first.click()
    assert opened.get_by_text("Domain XML").locator("visible=true").count() == 1
    assert overflow(opened) <= 0


def test_light_and_dark_differ(browser: Browser, report: str) -> None:
    papers = []
    schemes: tuple[Scheme, Scheme] = ("light", "dark")
    for scheme in schemes:
        shown = _context(browser, DESK, scheme).new_page()
        shown.goto(report)
        papers.append(shown.evaluate("getComputedStyle(document.body).backgroundColor"))
        shown.context.close()
    assert papers == ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]


def test_the_keyboard_is_enough(opened: Page) -> None:
    # Tab by tab to the first cell, Enter opens it, and the next tab is in what was opened.
    focused = ""
    for _ in range(60):
        opened.keyboard.press("Tab")
        focused = str(opened.evaluate("document.activeElement.getAttribute('href') || ''"))
        if focused.startswith("#"):
            break
    assert focused.startswith("#h0-f0-m")
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "where one is"
    assert not opened.locator(focused).is_visible()
    opened.keyboard.press("Enter")
    assert opened.locator(focused).is_visible()
    opened.keyboard.press("Tab")
    assert opened.evaluate(f"document.querySelector('{focused}').contains(document.activeElement)")
    # To a summary that it has, which Enter opens.
    while opened.evaluate("document.activeElement.tagName") != "SUMMARY":
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.parentElement.open")
    opened.get_by_text("Back to the table").locator("visible=true").focus()
    opened.keyboard.press("Enter")
    assert not opened.locator(focused).is_visible()


def test_filters_need_no_script(opened: Page) -> None:
    visible = "all => all.filter(one => one.checkVisibility({visibilityProperty: true})).map(one => one.innerText)"

    def shown() -> set[str]:
        return {word.partition(":")[0] for word in opened.locator("td a").evaluate_all(visible)}

    everything = shown()
    assert {"works", "fails", "unsupported"} <= everything
    opened.get_by_role("radio", name="known failure").check()
    assert shown() == {"known failure"}
    opened.get_by_role("radio", name="needs attention").check()
    assert "fails" in shown()
    assert not {"works", "known failure", "unsupported", "not run"} & shown()
    opened.get_by_role("radio", name="changed by the newest run").check()
    assert 0 < len(shown()) < len(everything)
    opened.get_by_role("radio", name="all", exact=True).check()
    assert shown() == everything
    header = opened.get_by_role("columnheader", name="privileged", exact=True)
    assert header.count()
    opened.get_by_role("checkbox", name="privileged", exact=True).uncheck()
    assert not header.count()
    host = opened.get_by_role("heading", level=2, name="another")
    assert host.is_visible()
    opened.get_by_role("checkbox", name="another").uncheck()
    assert not host.count()


def test_what_is_escaped_for_a_parser_is_escaped_for_a_browser(browser: Browser, tmp_path: Path) -> None:
    evil = "\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    (first, *_) = record.read(paths.RESULTS)
    made = first.model_copy(
        update={"reason": evil, "check": evil, "verdict": Verdict.FAILS, "evidence": {evil: evil, "error": evil + evil}}
    )
    file = tmp_path / "evil.html"
    file.write_text(html.render(contract.load(), [made]), encoding="utf-8")
    shown = browser.new_page()  # with scripts, were there any
    shown.goto(file.as_uri())
    assert shown.title() == "libvirt in a container: what works"
    assert shown.locator("script, img").count() == 0
    shown.close()
