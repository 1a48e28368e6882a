"""Letters and colours of every picture that is drawn."""

import unicodedata
from functools import cache

from PIL import ImageDraw, ImageFont

PAPER, INK, GREY, RAIL = "#fafaf7", "#1d1d1b", "#77776f", "#e3e3dc"

GREEN, RED, BLUE = "#2e8b57", "#c8452f", "#3b6ea5"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def shorten(text: str, font: Font, width: float) -> str:
    """Cut a text that is wider than `width` pixels and end it with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1].rstrip()
    return text + "…"


def write(pen: ImageDraw.ImageDraw, text: str, x: float, y: float, size: int, colour: str, room: float) -> float:
    """Write a text with its upper left corner at (x, y), shortened to `room` pixels; return its width in pixels."""
    text = drawable(text)
    font = font_for(text, size)
    if not _is_plain(text) and font is _plain_font(size):
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = shorten(text, font, room)
    pen.text((x, y), text, fill=colour, font=font)
    return font.getlength(text)


def drawable(text: str) -> str:
    """Return a text with a question mark for every character that no font draws: Pillow fails on some of them."""
    return "".join(one if one.isprintable() else "?" for one in text)


def as_words(name: str) -> str:
    """Return the name of a class as people write it: folders and tables have underscores for blanks."""
    return name.replace("_", " ")


def font_for(text: str, size: int) -> Font:
    """Return a font that knows the letters of a text: Pillow's own knows plain ones only, others are the system's."""
    return _plain_font(size) if _is_plain(text) else _wide_font(size) or _plain_font(size)


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
