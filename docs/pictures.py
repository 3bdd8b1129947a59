"""Make the pictures of the report in the documents, from the records in results/: .venv/bin/python docs/pictures.py."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from conformance.model import contract, record
from conformance.report import html
from conformance.util import paths

FOLDER = Path(__file__).parent

COLOURS = 256
"""The size of the pictures' palette: the page has few colours, and a small palette keeps the repository small."""


@dataclass(frozen=True)
class Picture:
    """A picture of a part of the report.

    Attributes:
        name: the name of its file.
        part: the id of the part in the page.
        width: the width of the window.
        height: the height of the window.
        scheme: the colours that the reader prefers.
        scale: the number of the picture's pixels for each pixel of the window.
    """

    name: str
    part: str
    width: int
    height: int
    scheme: Literal["light", "dark"]
    scale: int = 1


PICTURES = (
    Picture("report.png", "_results", 1440, 900, "light"),
    Picture("report-summary.png", "", 1280, 800, "dark"),
    Picture("report-cell.png", "lab-debian-13.unprivileged.volumes", 400, 800, "dark", scale=2),
)


def take(browser: Browser, report: str, picture: Picture) -> None:
    """Take one picture."""
    context = browser.new_context(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme=picture.scheme,
        device_scale_factor=picture.scale,
    )
    page = context.new_page()
    page.goto(f"{report}#{picture.part}")
    file = FOLDER / picture.name
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(COLOURS).save(file, optimize=True)
    context.close()


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = Path(folder, "report.html")
        report.write_text(html.render(contract.load(), record.read(paths.RESULTS)), encoding="utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        for picture in PICTURES:
            take(browser, report.as_uri(), picture)
        browser.close()


if __name__ == "__main__":
    main()
