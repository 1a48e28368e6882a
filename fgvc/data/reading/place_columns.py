"""Boxes and points in the columns of a table.

Shape letters: R rows, P body parts.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.table_file import Rows, read_head
from fgvc.errors import UsageError
from fgvc.images.boxes import Box
from fgvc.images.headers import upright_size

BOX = ("box_x1", "box_y1", "box_x2", "box_y2")
POINT = re.compile(r"point_(.+)_([xy])")


def place_columns(path: str | Path) -> list[str]:
    """Return the columns of boxes and points that a table has: all four of a box, x and y of each point.

    Raises:
        UsageError: some of them are there and others are not.
    """
    header, _ = read_head(path)
    boxes = [name for name in BOX if name in header]
    if boxes and len(boxes) < len(BOX):
        lacking = [name for name in BOX if name not in boxes]
        raise UsageError(f"{path}: columns {boxes} but not {lacking}; a box has all four: {', '.join(BOX)}")
    found = boxes
    for name in header:
        if match := POINT.fullmatch(name):
            other = f"point_{match[1]}_{'y' if match[2] == 'x' else 'x'}"
            if other not in header:
                raise UsageError(f"{path}: column {name!r} but not {other!r}; a point has both")
            found.append(name)
    return found


class PlaceTable:
    """What the columns of boxes and points say of each row.

    Args:
        rows: the table.
        columns: see `place_columns`.
        in_pixels: whether the numbers are pixels of the upright photograph, or fractions of its sides.

    Attributes:
        names: of the P points, in the order of the columns.

    Raises:
        UsageError: a cell that is no number, half a box or half a point, a box whose corners are not in order, or a
            fraction outside 0..1.
    """

    def __init__(self, rows: Rows, columns: Sequence[str], in_pixels: bool) -> None:
        self._in_pixels = in_pixels
        self.names = tuple(dict.fromkeys(match[1] for name in columns if (match := POINT.fullmatch(name))))
        self._boxes = _numbers(rows, BOX, in_pixels) if BOX[0] in columns else None
        self._points = [_numbers(rows, (f"point_{name}_x", f"point_{name}_y"), in_pixels) for name in self.names]
        if self._boxes is not None:
            for i in np.flatnonzero((self._boxes[:, :2] >= self._boxes[:, 2:]).any(axis=1))[:1].tolist():
                raise UsageError(f"{rows.at(i)}: the box {self._boxes[i].tolist()} is empty; give x1 < x2 and y1 < y2")

    def of(self, row: int, path: str) -> tuple[dict[str, Box], dict[str, tuple[float, float]]]:
        """Return the boxes and the points of a row by their names, as fractions of the upright photograph."""
        box = None if self._boxes is None or np.isnan(self._boxes[row]).any() else self._boxes[row]
        points = {name: table[row] for name, table in zip(self.names, self._points, strict=True)}
        points = {name: point for name, point in points.items() if not np.isnan(point).any()}
        if box is None and not points:
            return {}, {}
        size = np.array(upright_size(path) if self._in_pixels else (1, 1), dtype=np.float64)
        boxes: dict[str, Box] = {}
        if box is not None:
            x1, y1, x2, y2 = np.clip(box / np.tile(size, 2), 0, 1).tolist()
            boxes["object"] = (x1, y1, x2, y2)
        shares = {name: np.clip(point / size, 0, 1).tolist() for name, point in points.items()}
        return boxes, {name: (x, y) for name, (x, y) in shares.items()}


def _numbers(rows: Rows, columns: Sequence[str], in_pixels: bool) -> npt.NDArray[np.float64]:
    """Return (R, columns); NaN where all cells of a row are empty."""
    found = np.full((len(rows.numbers), len(columns)), np.nan)
    for i, cells in enumerate(zip(*(rows.cells[name] for name in columns), strict=True)):
        if not any(cells):
            continue
        for k, (name, cell) in enumerate(zip(columns, cells, strict=True)):
            try:
                found[i, k] = float(cell)
            except ValueError:
                todo = f"leave {', '.join(columns)} all empty where nothing is known"
                raise UsageError(f"{rows.at(i)}: {cell!r} in column {name!r} is no number; {todo}") from None
            if not np.isfinite(found[i, k]) or (not in_pixels and not 0 <= found[i, k] <= 1):
                what = "a finite number" if in_pixels else "a fraction from 0 to 1; or give places: pixels"
                raise UsageError(f"{rows.at(i)}: {cell!r} in column {name!r} is not {what}")
    return found
