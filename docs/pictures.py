"""Make the README's pictures of the report from the records in results/: .venv/bin/python docs/pictures.py."""

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from conformance.model import contract, record
from conformance.report import html
from conformance.util import paths

FOLDER = Path(__file__).parent

HOST = "lab-debian-13"
"""The host in the pictures: its table has many kinds of cells."""


def take(browser: Browser, report: str, name: str, *, width: int, height: int, dark: bool) -> None:
    """Take a picture of a host's table, or, in dark mode, of an opened cell on a phone."""
    scale = 2 if dark else 1
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
    )
    shown = context.new_page()
    shown.goto(report)
    heading = shown.get_by_role("heading", name=HOST, exact=True)
    heading.evaluate("one => one.scrollIntoView()")
    if dark:
        shown.locator("section", has=shown.locator(f"h2:text-is('{HOST}')")).locator(".is-bad a").first.click()
        opened = shown.locator(".opens:visible summary")
        if opened.count():
            opened.first.click()
    picture = FOLDER / name
    shown.screenshot(path=picture)
    # The page has few colours; a small palette keeps the repository small.
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)
    context.close()


def main() -> None:
    """Make both pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = Path(folder, "report.html")
        report.write_text(html.render(contract.load(), record.read(paths.RESULTS)), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        take(browser, report.as_uri(), "report.png", width=1760, height=1000, dark=False)
        take(browser, report.as_uri(), "report-cell.png", width=400, height=800, dark=True)
        browser.close()


if __name__ == "__main__":
    main()
