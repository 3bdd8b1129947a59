"""Reading a guest's screen as text: each character cell is compared with the glyphs of known fonts.

That is exact where a picture's size or a guess at letters is not: a cell either is a character, pixel by pixel and
in any two colours, or it is none. Known are the font of the video card's BIOS, which text mode shows, and the one
that memtest86+ and Linux bring along for a framebuffer. Other fonts, and text over pictures, are not read.
"""

import functools
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import libvirt
from PIL import Image

from conformance.errors import ImageFailure, MediaError
from conformance.media.third_party import third_party_media

GLYPH_WIDTH, GLYPH_HEIGHT = 8, 16
"""Of a glyph of each known font, in pixels."""

TEXT_MODE_WIDTH = 9
"""Of a cell of VGA's text mode: its last column is empty, or repeats the one before to join lines."""

COLUMNS, ROWS = 80, 25
"""Of a console that a program puts into the middle of a larger screen."""

UNREADABLE = "\N{REPLACEMENT CHARACTER}"

CONTROLS = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
"""The signs of code page 437 for bytes that are control characters elsewhere."""

CODE_PAGE = CONTROLS + bytes(range(32, 127)).decode("cp437") + "⌂" + bytes(range(128, 256)).decode("cp437")

LETTER_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")
"""The same in every font that descends from IBM's for the VGA, by which one is found in a program."""


Font = Mapping[bytes, str]
"""Characters by their glyphs, of one byte for each row, the leftmost pixel in its highest bit."""


def font_in(program: bytes, name: str) -> Font:
    """Return the font of 8x16 pixels in the order of code page 437 that a program has in it.

    Raises:
        MediaError: it has none.
    """
    start = program.find(LETTER_A) - ord("A") * GLYPH_HEIGHT
    drawn = program[max(start, 0) :][: len(CODE_PAGE) * GLYPH_HEIGHT]
    glyphs = [drawn[at : at + GLYPH_HEIGHT] for at in range(0, len(drawn), GLYPH_HEIGHT)]
    blank, block = bytes(GLYPH_HEIGHT), b"\xff" * GLYPH_HEIGHT
    if start < 0 or len(drawn) < 4096 or glyphs[ord(" ")] != blank or glyphs[CODE_PAGE.index("█")] != block:
        raise MediaError(f"{name} has no font of 8x16 pixels in it", "pin another version in the recipe")
    font = dict(zip(glyphs, CODE_PAGE, strict=True))
    # Two characters that look the same are the one that can be typed.
    return font | {glyphs[code]: chr(code) for code in range(ord(" "), 127)}


@functools.cache
def fonts() -> Font:
    """Return the glyphs of all known fonts; raises MediaError where they cannot be fetched."""
    files = third_party_media()
    known: dict[bytes, str] = {}
    for name in ("memtest.efi", "vgabios.bin"):
        known |= font_in(files[name].read_bytes(), name)
    return known


@dataclass(frozen=True)
class Reading:
    """The text on a picture of a screen.

    Attributes:
        lines: of the console, from the top, without spaces at their ends.
        known: how many characters were read, beside spaces.
        unknown: how many cells have something in them that is no known character.
        missing: why there is no picture to read; empty where there is one.
    """

    lines: tuple[str, ...] = ()
    known: int = 0
    unknown: int = 0
    missing: str = ""

    @property
    def text(self) -> str:
        """Return the lines as one text."""
        return "\n".join(self.lines).strip("\n")

    def describe(self) -> str:
        """Return the screen's text; for errors."""
        if self.missing:
            return f"(no screenshot: {self.missing})"
        # A picture's cells would only be noise.
        shown = self.text.replace(UNREADABLE, " ")
        lines = [line.rstrip() for line in shown.splitlines() if line.strip()] or ["(no text)"]
        return "\n".join([*lines, f"(cells without a known character: {self.unknown})"] if self.unknown else lines)


def read(picture: bytes, font: Font) -> Reading:
    """Read the text on a picture of a screen.

    Args:
        picture: an image file, PNG or PPM.
        font: glyphs to look for.

    Raises:
        ImageFailure: it is no whole image.
    """
    try:
        image = Image.open(io.BytesIO(picture), formats=["PNG", "PPM"]).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageFailure(f"the screen's picture of {len(picture)} bytes is no image: {error}") from error
    # Of grids that are not the console's own, cells are at best a few lines that happen to be drawn alike.
    return max((_read(image, grid, font) for grid in _grids(*image.size)), key=lambda reading: reading.known)


@dataclass(frozen=True)
class _Grid:
    """Where character cells are: the first one's place, and how wide each is."""

    left: int
    top: int
    width: int


def _grids(width: int, height: int) -> Iterable[_Grid]:
    """Return where a console can be on a screen: it begins in the corner, or is in the middle."""

    def middle(columns: int, rows: int) -> _Grid:
        left, top = (width - columns * GLYPH_WIDTH) // 2, (height - rows * GLYPH_HEIGHT) // 2
        return _Grid(left % GLYPH_WIDTH, top % GLYPH_HEIGHT, GLYPH_WIDTH)

    corner = _Grid(0, 0, GLYPH_WIDTH)
    grids = [corner, middle(width // GLYPH_WIDTH, height // GLYPH_HEIGHT), middle(COLUMNS, ROWS)]
    if width % TEXT_MODE_WIDTH == 0:
        grids.append(_Grid(0, 0, TEXT_MODE_WIDTH))
    return dict.fromkeys(grids)


def _read(image: Image.Image, grid: _Grid, font: Font) -> Reading:
    seen: dict[bytes, str] = {}
    lines = []
    for top in range(grid.top, image.height - GLYPH_HEIGHT + 1, GLYPH_HEIGHT):
        line = ""
        for left in range(grid.left, image.width - grid.width + 1, grid.width):
            cell = image.crop((left, top, left + grid.width, top + GLYPH_HEIGHT)).tobytes()
            if cell not in seen:
                seen[cell] = _character(cell, grid.width, font)
            line += seen[cell]
        lines.append(line.rstrip())
    text = "".join(lines)
    unknown = text.count(UNREADABLE)
    return Reading(tuple(lines), len(text) - text.count(" ") - unknown, unknown)


def _character(cell: bytes, width: int, font: Font) -> str:
    """Return the character in a cell of pixels, three bytes each: red, green and blue."""
    pixels = [cell[at : at + 3] for at in range(0, len(cell), 3)]
    colours = sorted(set(pixels), key=pixels.count)
    if len(colours) == 1:
        return " "
    if len(colours) > 2:
        return UNREADABLE
    # Some glyphs are others with their colours swapped: most have less ink than paper.
    for ink in colours:
        glyph = _glyph([pixel == ink for pixel in pixels], width)
        if glyph in font:
            return font[glyph]
    return UNREADABLE


def _glyph(inked: list[bool], width: int) -> bytes:
    """Return a cell's glyph; empty where there is ink beyond its columns that does not go on from within."""
    rows = [inked[at : at + width] for at in range(0, len(inked), width)]
    if any(row[GLYPH_WIDTH] and not row[GLYPH_WIDTH - 1] for row in rows if width > GLYPH_WIDTH):
        return b""
    return bytes(sum(ink << (GLYPH_WIDTH - 1 - at) for at, ink in enumerate(row[:GLYPH_WIDTH])) for row in rows)


class Screen:
    """The screen of a domain that has a video card, as libvirt's screenshots show it.

    Attributes:
        picture: the newest screenshot, an image file; empty where none was taken.

    Raises:
        MediaError: the fonts cannot be fetched.
    """

    def __init__(self, connection: "libvirt.virConnect", domain: "libvirt.virDomain") -> None:
        self.picture = b""
        self._connection = connection
        self._domain = domain
        self._reading = Reading()
        # Now and not at the first look: the guest's text might be gone by then.
        self._font = fonts()

    def capture(self) -> Reading:
        """Take a screenshot, and return the text on it.

        Raises:
            libvirt.libvirtError: the domain has ended, or has no screen.
            ImageFailure: the screenshot is no image.
        """
        stream = self._connection.newStream(0)
        self._domain.screenshot(stream, 0)
        received = bytearray()
        stream.recvAll(lambda _stream, data, _opaque: received.extend(data), None)
        stream.finish()
        if self.picture != received:
            self.picture = bytes(received)
            self._reading = read(self.picture, self._font)
        return self._reading


def save(picture: bytes, path: Path) -> Path:
    """Write a screenshot as PNG, and return where it is; raises OSError where that cannot be done."""
    path.parent.mkdir(exist_ok=True)
    Image.open(io.BytesIO(picture)).save(path, format="PNG")
    return path


def small_png(picture: bytes) -> bytes:
    """Return a screenshot as a PNG of a few KiB, in few colours and no larger than a record should be."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((1024, 768))
    made = io.BytesIO()
    image.quantize(16).save(made, format="PNG", optimize=True)
    return made.getvalue()
