"""Many pictures on one sheet, each with the model's best guess under it.

Shape letters: H, W a picture; T side of a tile's thumbnail.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from fgvc.errors import UsageError
from fgvc.images.decoding import Pixels
from fgvc.images.lettering import BLUE, GREEN, GREY, INK, PAPER, RAIL, RED, as_words, font_for, write
from fgvc.images.resizing import EvalResize, resize_for_eval


class Tile(NamedTuple):
    """One picture of the sheet.

    image: (H, W, 3) uint8 RGB; its centred square is shown.
    label, score: the guess and its probability, None where nothing is vouched for.
    truth: the true name, where it is known: it decides the colour of the frame.
    """

    image: Pixels
    label: str
    score: float | None
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
    pen.rectangle((x, rail, x + max(1, round((tile.score or 0) * size)) - 1, rail + frame), fill=tile.colour)
    letters = max(9, size // 13)
    lines = rail + 2 * frame + letters // 4
    percent = "" if tile.score is None else f"{tile.score * 100:.0f} %"
    room = size - font_for("0", letters).getlength(percent) - letters / 2
    write(pen, as_words(tile.label), x, lines, letters, INK, room)
    pen.text((x + size, lines), percent, fill=tile.colour, font=font_for("0", letters), anchor="ra")
    if tile.truth is not None and tile.truth != tile.label:
        write(pen, f"is {as_words(tile.truth)}", x, lines + round(letters * 1.3), letters, GREY, size)
