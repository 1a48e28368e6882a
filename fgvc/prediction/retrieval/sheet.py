"""Photographs side by side: a query and what is near it, a row each."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fgvc.files.whole_files import save_picture
from fgvc.images.contact_sheet import Tile, contact_sheet
from fgvc.images.decoding import USUAL, ImageError, Limits, Pixels
from fgvc.images.pictures import pixels_of

ROWS = 24
"""How many rows a sheet shows."""
_PAPER = (250, 250, 247)
_SIDE = 192

Shown = tuple[str, str]
"""A file and what is written under it."""


def row_sheet(rows: Iterable[Sequence[Shown]], columns: int, target: Path, limits: Limits = USUAL) -> bool:
    """Draw up to ROWS rows of up to `columns` pictures; one that cannot be read is an empty square.

    Returns:
        Whether there was a row to draw.

    Raises:
        UsageError, FgvcError: see `save_picture`.
    """
    tiles: list[Tile] = []
    for _, row in zip(range(ROWS), rows, strict=False):
        shown = [Tile(_pixels(path, limits), text, None) for path, text in row[:columns]]
        tiles += shown + [Tile(_empty(), "", None)] * (columns - len(shown))
    if tiles:
        save_picture(contact_sheet(tiles, columns, _SIDE), target)
    return bool(tiles)


def _pixels(path: str, limits: Limits) -> Pixels:
    try:
        return pixels_of(path, at_least=2 * _SIDE, limits=limits)
    except ImageError:
        return _empty()


def _empty() -> Pixels:
    return np.full((_SIDE, _SIDE, 3), _PAPER, dtype=np.uint8)
