"""Many pictures on one sheet, each with the model's best guess under it.

Shape letters: H, W a picture; T side of a tile's thumbnail.
"""

import math
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgvc.errors import FgvcError, UsageError
from fgvc.images.decoding import EvalResize, Pixels, resize_for_eval

PAPER, INK, GREY, RAIL = "#fafaf7", "#1d1d1b", "#77776f", "#e3e3dc"
GREEN, RED, BLUE = "#2e8b57", "#c8452f", "#3b6ea5"
SUFFIXES = (".jpg", ".jpeg", ".png")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Tile(NamedTuple):
    """One picture of the sheet.

    image: (H, W, 3) uint8 RGB; its centred square is shown.
    label, score: the guess and its probability.
    truth: the true name, where it is known: it decides the colour of the frame.
    """

    image: Pixels
    label: str
    score: float
    truth: str | None = None

    @property
    def colour(self) -> str:
        """Green for right, red for wrong, blue where the truth is not known."""
        return BLUE if self.truth is None else GREEN if self.truth == self.label else RED


def contact_sheet(items: Sequence[Tile], columns: int = 8, tile_size: int = 192) -> Pixels:
    """Draw the tiles in rows.

    Args:
        items: at least one.
        columns: tiles per row, at most.
        tile_size: T in pixels.

    Returns:
        (rows * tile height, columns * tile width, 3) uint8 RGB.

    Raises:
        UsageError: no tiles, or a size below 1.
    """
    if not items or columns < 1 or tile_size < 1:
        raise UsageError(
            f"contact sheet: {len(items)} pictures in {columns} columns of {tile_size} pixels; nothing to draw"
        )
    columns = min(columns, len(items))
    two_lines = any(tile.truth is not None for tile in items)
    gap, caption = max(4, tile_size // 14), round(tile_size * (0.28 if two_lines else 0.18))
    width, height = tile_size + gap, tile_size + caption + gap
    sheet = Image.new("RGB", (columns * width + gap, math.ceil(len(items) / columns) * height + gap), PAPER)
    for i, tile in enumerate(items):
        _draw(sheet, tile, gap + i % columns * width, gap + i // columns * height, tile_size)
    return np.array(sheet, dtype=np.uint8)


def save(sheet: Pixels, path: str | Path) -> None:
    """Write a sheet (H, W, 3) as .jpg or .png, under a temporary name first.

    Raises:
        UsageError: another suffix.
        FgvcError: the file cannot be written.
    """
    target = check_suffix(Path(path))
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if target.suffix.lower() == ".png" else "JPEG"
        Image.fromarray(sheet).save(temporary, format=kind, quality=90)
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FgvcError(f"{target}: cannot be written ({error.strerror or error})") from None


def check_suffix(path: Path) -> Path:
    """Return the path, or raise UsageError where it is neither .jpg nor .png."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a contact sheet is written as {' or '.join(SUFFIXES)}, not {path.suffix!r}")
    return path


def shorten(text: str, font: Font, width: float) -> str:
    """Cut a text that is wider than `width` pixels and end it with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1].rstrip()
    return text + "…"


def write(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, size: int, colour: str, room: float) -> float:
    """Write a text with its upper left corner at (x, y), shortened to `room` pixels; return its width in pixels."""
    font = font_for(text, size)
    if not _is_plain(text) and font is _plain_font(size):
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = shorten(text, font, room)
    pen.text((x, y), text, fill=colour, font=font)
    return font.getlength(text)


def as_words(name: str) -> str:
    """Return the name of a class as people write it: folders and tables have underscores for blanks."""
    return name.replace("_", " ")


def font_for(text: str, size: int) -> Font:
    """Return a font that knows the letters of a text: Pillow's own knows plain ones only, others are the system's."""
    return _plain_font(size) if _is_plain(text) else _wide_font(size) or _plain_font(size)


def _draw(sheet: Image.Image, tile: Tile, x: int, y: int, size: int) -> None:
    pen = ImageDraw.Draw(sheet)
    thumbnail, _ = resize_for_eval(tile.image, EvalResize(size))
    sheet.paste(Image.fromarray(thumbnail), (x, y))
    frame = max(2, size // 48)
    if tile.truth is not None:
        pen.rectangle((x, y, x + size - 1, y + size - 1), outline=tile.colour, width=frame)
    # The bar under the picture is as long as the guess is sure.
    rail = y + size + frame
    pen.rectangle((x, rail, x + size - 1, rail + frame), fill=RAIL)
    pen.rectangle((x, rail, x + max(1, round(tile.score * size)) - 1, rail + frame), fill=tile.colour)
    letters = max(9, size // 13)
    lines = rail + 2 * frame + letters // 4
    percent = f"{tile.score * 100:.0f} %"
    room = size - font_for("0", letters).getlength(percent) - letters / 2
    write(pen, as_words(tile.label), x, lines, letters, INK, room)
    pen.text((x + size, lines), percent, fill=tile.colour, font=font_for("0", letters), anchor="ra")
    if tile.truth is not None and tile.truth != tile.label:
        write(pen, f"is {as_words(tile.truth)}", x, lines + round(letters * 1.3), letters, GREY, size)


def _is_plain(text: str) -> bool:
    return text.isascii()


@cache
def _plain_font(size: int) -> Font:
    return ImageFont.load_default(size=size)


@cache
def _wide_font(size: int) -> Font | None:
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
