"""The report in a real browser: Debian's Chromium, without scripts of the page's own and without a network."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from conformance.model import contract, record
from conformance.model.record import Record
from conformance.model.verdict import Verdict
from conformance.report import html
from conformance.util import paths

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="no Chromium here: ./run test installs it on Debian"
)

Scheme = Literal["light", "dark"]

SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SIZES = ((360, 740), (768, 1024), (1280, 800), (1440, 900), (1920, 1080))
DESK = SIZES[-1]
LONG = "x" * 300

VISIBLE = "all => all.filter(one => one.checkVisibility({visibilityProperty: true})).map(one => one.innerText)"


def records() -> Iterator[Record]:
    """Yield what one run recorded of one mode, then two runs that give each verdict, a flaky cell, and long words."""
    real = list(record.read(paths.RESULTS))
    first = real[0]
    yield from (one for one in real if (one.run, one.host, one.mode) == (first.run, first.host, first.mode))
    another = first.host.model_copy(update={"name": "another"})
    yield first.model_copy(update={"host": another, "checks": (first.check,)})
    evidence = {"error": LONG, "screen": LONG, "guests": [{"domain": LONG, "xml": LONG, "report": [LONG]}]}
    places = [(feature, mode.id) for feature in ("api", "volumes") for mode in contract.load().modes]
    for run, verdicts in (
        ("99990101T000000Z-a-1", [Verdict.WORKS] * 8),
        ("99990102T000000Z-a-2", [*Verdict, Verdict.FAILS]),
    ):
        for (feature, mode), verdict in zip(places, verdicts, strict=False):
            again = {"run": run, "mode": mode, "feature": feature, "verdict": verdict, "checks": (first.check,)}
            asked = "the same" if (feature, mode) == places[len(Verdict)] else ""
            yield first.model_copy(update=again | {"asked": asked, "evidence": evidence, "reason": f"{LONG} {LONG}"})


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
    place: tuple[tuple[int, int], Scheme] = getattr(request, "param", (DESK, "light"))
    size, scheme = place
    # Scripts are on for axe-core's sake: the page has none, and its policy lets none run.
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    context.set_default_timeout(30_000)
    loaded: list[str] = []
    context.on("request", lambda one: loaded.append(one.url))
    shown = context.new_page()
    complaints: list[str] = []
    shown.on("console", lambda one: complaints.append(one.text))
    shown.goto(report)
    yield shown
    outside = [url for url in loaded if url.partition("#")[0] != report and not url.startswith("data:")]
    assert outside == [], "it loads something beside itself"
    assert complaints == [], "its own policy forbids something that it has"
    context.close()


def overflow(shown: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def violations(shown: Page, part: str = "body") -> list[str]:
    """Return axe-core's findings on the visible parts: WCAG 2 as far as a machine can see, contrast among it."""
    found = Axe().run(shown, context=part, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def cells(shown: Page) -> set[str]:
    """Return the visible verdicts in the table of all results."""
    return {word.partition(":")[0] for word in shown.locator(".grid td a").evaluate_all(VISIBLE)}


def heads(shown: Page) -> set[tuple[str, str]]:
    """Return mode and host of the visible columns in the table of all results."""
    names = shown.locator(".grid thead th:not(:first-child)").evaluate_all(
        "all => all.filter(one => one.checkVisibility()).map(one => [...one.children].map(part => part.innerText))"
    )
    return {(mode, host) for mode, host, *_ in names}


PLACES = [(size, scheme) for size in SIZES for scheme in SCHEMES]


def on(*places: tuple[tuple[int, int], Scheme]) -> pytest.MarkDecorator:
    """Run a test at these sizes and in these colours."""
    return pytest.mark.parametrize(
        "opened", places, ids=[f"{size[0]}-{scheme}" for size, scheme in places], indirect=True
    )


@on(*PLACES)
def test_it_can_be_read(opened: Page) -> None:
    assert opened.get_by_role("heading", level=1).inner_text() == "libvirt in a container: what works"
    assert {"works", "fails", "known failure", "fixed", "unsupported", "error", "not run", "flaky"} <= cells(opened)
    assert opened.get_by_text("recommended").first.is_visible()
    assert overflow(opened) <= 0
    opened.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert overflow(opened) <= 0


@on(*((size, "light") for size in SIZES), (SIZES[0], "dark"), (DESK, "dark"))
def test_everybody_can_use_it(opened: Page) -> None:
    # The layout depends on the width alone, and axe-core takes seconds: the dark colours are tried at two widths.
    opened.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert violations(opened) == []


@on((SIZES[0], "dark"), (SIZES[2], "light"))
def test_a_cell_its_mode_and_its_guest_can_be_read(opened: Page) -> None:
    opened.locator(".grid td a", has_text="error").first.click()
    section = opened.locator(".opens:visible")
    assert section.locator("h3").inner_text().startswith("error")
    assert section.get_by_text(LONG).first.is_visible(), "the evidence of what is wrong is open"
    assert overflow(opened) <= 0
    assert violations(opened, ".opens:target") == []
    section.locator(".checks a").first.click()
    assert opened.get_by_text("Domain XML").locator("visible=true").count() == 1
    assert overflow(opened) <= 0
    assert violations(opened, ".opens:target") == []
    opened.locator(".summary td a").first.click()
    assert section.get_by_text("docker run").is_visible()
    assert overflow(opened) <= 0
    assert violations(opened, ".opens:target") == []


@pytest.mark.parametrize("width", [size[0] for size in SIZES])
def test_head_and_first_column_stay_in_sight(opened: Page, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 500})
    box = opened.locator(".tall")
    corner = "one => { const at = one.getBoundingClientRect(); return [at.x, at.y]; }"
    head, column = box.locator("thead th").first, box.locator("tbody th").nth(5)
    box.evaluate("one => { one.firstElementChild.style.width = '4000px'; one.scrollIntoView(); }")
    (head_x, head_y), (x, y) = head.evaluate(corner), column.evaluate(corner)
    assert box.evaluate("one => { one.scrollTo(300, 200); return [one.scrollLeft, one.scrollTop]; }") == [300, 200]
    assert head.evaluate(corner) == [head_x, head_y]
    assert column.evaluate(corner) == [x, y - 200]
    assert overflow(opened) <= 0, "the table scrolls in its own box"
    fixed = "[...document.querySelectorAll('*')].filter(one => getComputedStyle(one).position == 'fixed').length"
    assert opened.evaluate(fixed) == 0


def test_light_and_dark_differ(browser: Browser, report: str) -> None:
    papers = set()
    for scheme in SCHEMES:
        context = browser.new_context(color_scheme=scheme)
        shown = context.new_page()
        shown.goto(report)
        papers.add(shown.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert papers == {"rgb(255, 255, 255)", "rgb(15, 19, 24)"}


def test_a_link_to_a_cell_opens_it(opened: Page, report: str) -> None:
    link = opened.locator(".grid td a", has_text="known failure").first.get_attribute("href") or ""
    (first, *_) = record.read(paths.RESULTS)
    assert link.removeprefix(f"#{first.host.name}.").count(".") == 1, "mode and feature"
    opened.goto("about:blank")
    opened.goto(report + link)
    section = opened.locator(f"[id='{link.removeprefix('#')}']")
    assert section.is_visible()
    assert 0 <= section.evaluate("one => one.getBoundingClientRect().y") < DESK[1]
    assert opened.locator(".opens:visible").count() == 1


FOCUS = """() => {
    const one = document.activeElement, marked = one.closest("label") ?? one;
    return [one.id || one.getAttribute("href") || one.className || one.tagName, getComputedStyle(marked).outlineStyle];
}"""


def test_the_keyboard_reaches_everything_and_shows_where_it_is(opened: Page) -> None:
    opened.locator("#_recommended").check()  # then the button that undoes this is there
    opened.locator("nav a").last.focus()
    opened.keyboard.press("Shift+Tab")
    reached: dict[str, str] = {}
    for _ in range(600):
        name, outline = opened.evaluate(FOCUS)
        if name == "BODY":
            break
        reached[name] = outline
        opened.keyboard.press("Tab")
    assert {name for name, outline in reached.items() if outline != "solid"} == set()
    wanted = opened.locator(
        "input[type=checkbox], #_show-all, .grid td a, .summary a, nav a:nth-last-child(-n + 2)"
    ).evaluate_all("all => all.filter(one => one.checkVisibility()).map(one => one.id || one.getAttribute('href'))")
    assert set(wanted) - set(reached) == set()
    assert {"BUTTON", "SUMMARY", "scroll", "scroll tall"} <= set(reached)


def test_the_keyboard_opens_a_cell_and_comes_back(opened: Page) -> None:
    link = opened.locator(".grid td a", has_text="fails").first
    section = opened.locator(f"[id='{(link.get_attribute('href') or '').removeprefix('#')}']")
    assert not section.is_visible()
    link.focus()
    opened.keyboard.press("Enter")
    assert section.is_visible()
    opened.keyboard.press("Tab")
    assert section.evaluate("one => one.contains(document.activeElement)")
    while opened.evaluate("document.activeElement.tagName") != "SUMMARY":
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert not opened.evaluate("document.activeElement.parentElement.open"), "what fails was open"
    opened.get_by_text("Back to the table").focus()
    opened.keyboard.press("Enter")
    assert not section.is_visible()
    opened.locator("#_show-all").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#_show-bad").is_checked()


def test_one_click_shows_only_some_cells(opened: Page) -> None:
    everything, columns = cells(opened), len(heads(opened))
    opened.get_by_role("radio", name="known failure").check()
    assert cells(opened) == {"known failure"}
    opened.get_by_role("radio", name="changed by the newest run").check()
    assert 0 < len(cells(opened)) < len(everything)
    opened.get_by_role("radio", name="only failures").check()
    assert "fails" in cells(opened)
    assert not {"works", "known failure", "unsupported", "not run"} & cells(opened)
    rows = opened.locator(".grid tbody tr:visible th").all_inner_texts()
    assert 0 < len(rows) < len(contract.load().features), "rows without such a cell are left out"
    assert 0 < len(heads(opened)) < columns, "and columns"
    opened.get_by_role("radio", name="all", exact=True).check()
    assert cells(opened) == everything


def test_modes_and_hosts_are_compared_side_by_side(opened: Page) -> None:
    everything = heads(opened)
    real = next(host for _, host in everything if host != "another")
    for mode in ("least", "least-apparmor"):
        opened.get_by_role("checkbox", name=mode, exact=True).check()
    assert {mode for mode, _ in heads(opened)} == {"least", "least-apparmor"}
    opened.get_by_role("button", name="Show everything").click()
    assert heads(opened) == everything
    opened.get_by_role("checkbox", name="another").check()
    assert {host for _, host in heads(opened)} == {"another"}
    opened.get_by_role("checkbox", name=real).check()
    both = {mode for mode, host in everything if host == "another"}
    (shared, *_) = both
    opened.get_by_role("checkbox", name=shared, exact=True).check()
    assert heads(opened) == {(shared, "another"), (shared, real)}


def test_only_failures_of_one_mode_leaves_out_rows_that_fail_in_others(opened: Page) -> None:
    opened.get_by_role("radio", name="only failures").check()
    rows = opened.locator(".grid tbody tr:visible")
    assert rows.count()
    for box in opened.locator("input.mode").all():
        box.check()
        shown, words = rows.count(), opened.locator(".grid td a").evaluate_all(VISIBLE)
        assert shown == len({row for row in rows.all() if row.locator("td a").evaluate_all(VISIBLE)})
        assert bool(words) == bool(shown)
        box.uncheck()


def test_recommended_modes_are_one_click(opened: Page) -> None:
    marked = opened.locator(".grid thead .star")
    assert marked.count()
    opened.get_by_role("checkbox", name="recommended").check()
    assert opened.locator(".grid thead th:visible").count() == marked.count() + 1


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
