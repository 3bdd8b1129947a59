"""Reading text from pictures that are drawn here, with a font that is made up here."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conformance.errors import ImageFailure, MediaError
from conformance.guests import screen
from conformance.guests.screen import UNREADABLE, Font, Reading, Screen

GREY, BLUE, RED, WHITE = (170, 170, 170), (0, 0, 170), (170, 0, 0), (255, 255, 255)
TEXT = ["", "  Memtest86+ v7.20", "Time:  0:00:07", "~{|}"]


def glyph(character: str) -> bytes:
    """Make up how a character looks: empty at its top and its right, as most are."""
    rows = hashlib.shake_128(character.encode()).digest(12)
    return bytes(2) + bytes(row & 0xFE for row in rows) + bytes(2)


FONT: Font = {glyph(chr(code)): chr(code) for code in range(33, 127)} | {
    b"\xff" * 16: "█",
    bytes(16): " ",
    b"\xff" * 8 + bytes(8): "▀",
    bytes(8) + b"\xff" * 8: "▄",
    bytes(7) + b"\xff" + bytes(8): "─",
}
GLYPHS = {character: drawn for drawn, character in FONT.items()}


def drawn(
    lines: list[str],
    *,
    size: tuple[int, int] = (720, 400),
    width: int = 9,
    at: tuple[int, int] = (0, 0),
    ink: tuple[int, int, int] = GREY,
    paper: tuple[int, int, int] = BLUE,
    peer_network: tuple[int, int, int] = BLUE,
) -> Image.Image:
    """Draw lines of text, its first cell at a place, on a screen of one colour."""
    image = Image.new("RGB", size, peer_network)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            left, top = at[0] + column * width, at[1] + row * 16
            image.paste(paper, (left, top, left + width, top + 16))
            for y, bits in enumerate(GLYPHS[character]):
                for x in range(width):
                    # As VGA does it: the ninth column goes on with lines, and is empty beside letters.
                    inked = bits >> (7 - x) & 1 if x < 8 else bits & 1 and character in "─█▀▄"
                    if inked:
                        image.putpixel((left + x, top + y), ink)
    return image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def read(image: Image.Image) -> Reading:
    return screen.read(png(image), FONT)


def test_text_mode_is_read() -> None:
    reading = read(drawn([*TEXT, "──"]))
    assert [*reading.lines] == [*TEXT, "──", *[""] * 20]
    assert reading.text == "\n".join([*TEXT[1:], "──"])
    assert (reading.known, reading.unknown) == (len("".join([*TEXT, "──"]).replace(" ", "")), 0)


@pytest.mark.parametrize(
    ("size", "at"),
    [
        ((640, 400), (0, 0)),  # a framebuffer of the console's own size
        ((1280, 800), (0, 0)),  # a console that fills it from the corner
        ((1280, 800), (320, 200)),  # 80x25 cells in the middle
        ((1366, 768), (3, 0)),  # as many cells as there is room for, in the middle
    ],
)
def test_a_framebuffer_is_read(size: tuple[int, int], at: tuple[int, int]) -> None:
    reading = read(drawn(TEXT, size=size, width=8, at=at, peer_network=(0, 0, 0)))
    assert [line.strip() for line in reading.lines if line] == [line.strip() for line in TEXT[1:]]
    assert reading.unknown == 0


def test_colours_do_not_matter() -> None:
    image = drawn(TEXT, ink=BLUE, paper=GREY, peer_network=GREY)
    image.paste(drawn(["bar"], ink=WHITE, paper=RED).crop((0, 0, 27, 16)), (0, 64))
    assert read(image).text == "\n".join([*TEXT[1:], "bar"])


def test_a_blank_screen_says_nothing() -> None:
    reading = read(Image.new("RGB", (720, 400)))
    assert (reading.text, reading.known, reading.unknown) == ("", 0, 0)
    assert reading.describe() == "(no text)"


def test_a_garbled_screen_is_not_taken_for_text() -> None:
    noise = hashlib.shake_128(b"noise").digest(720 * 400)
    for image in (Image.frombytes("L", (720, 400), noise), Image.frombytes("1", (720, 400), noise)):
        reading = read(image)
        assert reading.known == 0
        assert reading.unknown == len(reading.text.replace("\n", ""))
        assert reading.describe() == f"(no text)\n(cells without a known character: {reading.unknown})"


def test_text_that_is_off_the_grid_is_not_guessed() -> None:
    reading = read(drawn(TEXT, at=(4, 5)))
    assert not any(word in reading.text for word in ("Memtest", "Time", "7.20"))
    assert reading.unknown


def test_one_wrong_pixel_is_another_character() -> None:
    image = drawn(TEXT)
    left, top = 2 * 9, 16
    image.putpixel((left, top), GREY if image.getpixel((left, top)) == BLUE else BLUE)
    assert read(image).lines[1] == f"  {UNREADABLE}emtest86+ v7.20"


def test_ink_beside_a_character_is_none_of_it() -> None:
    image = drawn(TEXT)
    image.putpixel((2 * 9 + 8, 20), GREY)
    assert read(image).lines[1] == f"  {UNREADABLE}emtest86+ v7.20"


def test_other_text_is_read_as_what_it_is() -> None:
    reading = read(drawn(["No bootable device."]))
    assert reading.describe() == "No bootable device."


def test_what_cannot_be_read_is_counted_and_left_out() -> None:
    image = drawn(TEXT)
    image.paste(Image.frombytes("L", (90, 160), hashlib.shake_128(b"logo").digest(90 * 160)), (360, 160))
    assert read(image).describe() == "\n".join([*TEXT[1:], "(cells without a known character: 100)"])


@pytest.mark.parametrize("picture", [b"", b"GIF89a", png(drawn(TEXT))[:500], b"P6\n720 400\n255\nshort"])
def test_a_picture_that_is_none_is_the_images_failure(picture: bytes) -> None:
    with pytest.raises(ImageFailure, match=f"picture of {len(picture)} bytes is no image"):
        screen.read(picture, FONT)


# The fonts ------------------------------------------------------------------------------------------------


def program(**instead: bytes) -> bytes:
    """Return a program with a font in it; ``instead`` has other glyphs by the names of their characters."""
    glyphs = [hashlib.shake_128(character.encode()).digest(16) for character in screen.CODE_PAGE]
    own = {" ": bytes(16), "█": b"\xff" * 16, "A": screen.LETTER_A} | instead
    for character, drawn_ in own.items():
        glyphs[screen.CODE_PAGE.index(character, 1)] = drawn_
    return b"code" * 100 + b"".join(glyphs) + b"more code"


def test_a_font_is_found_in_a_program() -> None:
    font = screen.font_in(program(α=screen.LETTER_A), "rom")
    assert font[screen.LETTER_A] == "A", "not another letter that looks the same"
    assert font[bytes(16)] == " "
    assert set("Zz09~°│") < set(font.values())


@pytest.mark.parametrize(
    "content",
    [b"", b"code" * 5000, screen.LETTER_A, program()[:4000], program(**{"█": bytes(16)}), program(**{" ": b"x" * 16})],
)
def test_a_program_without_a_font_is_named(content: bytes) -> None:
    with pytest.raises(MediaError, match="rom has no font of 8x16 pixels"):
        screen.font_in(content, "rom")


# A domain's screen ----------------------------------------------------------------------------------------


class Stream:
    """A stream that hands over a screenshot."""

    def __init__(self, picture: bytes) -> None:
        self.picture = picture

    def recvAll(self, take: Any, opaque: object) -> None:  # noqa: N802
        take(self, self.picture[:100], opaque)
        take(self, self.picture[100:], opaque)

    def finish(self) -> None:
        pass


def test_a_screenshot_is_read_and_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(screen, "fonts", lambda: FONT)
    connection: Any = type("Connection", (), {"newStream": lambda _self, _flags: Stream(png(drawn(TEXT)))})()
    domain: Any = type("Domain", (), {"screenshot": lambda _self, _stream, _screen: "image/png"})()
    shown = Screen(connection, domain)

    assert "Memtest86+ v7.20" in shown.capture().text
    assert Image.open(screen.save(shown.picture, tmp_path / "artefacts" / "screen.png")).size == (720, 400)


def test_a_record_keeps_a_small_screenshot() -> None:
    kept = screen.small_png(png(drawn(TEXT).resize((2000, 1500))))
    assert Image.open(io.BytesIO(kept)).size == (1024, 768)
    assert len(kept) < 30_000
