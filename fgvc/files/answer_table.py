"""The table of a run's test answers, and how far its probabilities can be trusted.

Shape letters: N test images, L levels, B bins.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]
Columns = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Answers:
    """What a run answered for its test images.

    paths: N paths as the data source knows them.
    levels: coarse to fine; names: for each, the names that the codes stand for.
    truth, answer: (N, L) codes, -1 where nothing is known.
    score: (N,) probability of the answered leaf as the network gave it; calibrated: the same after calibration, or
        None. NaN where a cell is empty.
    views: name -> (N,) codes of the leaf that a part of the method answered.
    boxes: N cells of JSON, or None.
    """

    paths: Sequence[str]
    levels: tuple[str, ...]
    names: list[list[str]]
    truth: Codes
    answer: Codes
    score: Numbers
    calibrated: Numbers | None = None
    views: dict[str, Codes] = field(default_factory=dict)
    boxes: Sequence[str] | None = None

    @cached_property
    def known(self) -> Flags:
        """(N,) where the true leaf is known."""
        return np.asarray(self.truth[:, -1] >= 0)

    @cached_property
    def right(self) -> Flags:
        """(N,) where the true leaf is known and answered."""
        return np.asarray(self.known & (self.truth[:, -1] == self.answer[:, -1]))

    @cached_property
    def confidence(self) -> Numbers:
        """(N,) the calibrated probabilities, or those of the network where there are none."""
        return self.score if self.calibrated is None else self.calibrated

    @cached_property
    def rising(self) -> list[int]:
        """The N rows, the least sure first."""
        return [int(row) for row in np.argsort(np.nan_to_num(self.confidence, nan=-1.0), kind="stable")]

    def leaf(self, code: int) -> str:
        """Return the name of a leaf, "" where it is not known."""
        return self.names[-1][code] if code >= 0 else ""

    def boxes_of(self, row: int) -> list[Box]:
        """Return where the model looked, xyxy as fractions; nothing where the cell is empty or damaged."""
        try:
            cells = json.loads(self.boxes[row]) if self.boxes else []
            boxes = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in cells]
        except (ValueError, TypeError):
            return []
        return [box for box in boxes if all(map(math.isfinite, box))]


def read_answers(path: Path) -> Answers:
    """Read `predictions_test.csv`: path, <level>_true, <level>_pred ..., score, and the optional columns.

    Raises:
        UsageError: no rows, a row with a cell too many or too few, or a column that is missing.
    """
    again = f"run `fgvc test {path.parent}` again"
    columns = _columns(path, again)
    levels = tuple(
        name.removesuffix("_true")
        for name in columns
        if name.endswith("_true") and f"{name.removesuffix('_true')}_pred" in columns
    )
    if not levels or "path" not in columns:
        raise UsageError(f"{path}: no columns path, <level>_true and <level>_pred in it; {again}")
    leaf, nothing = levels[-1], ("",) * len(columns["path"])
    books: list[dict[str, int]] = [{} for _ in levels]
    truth, answer = (
        np.stack([_codes(columns[f"{level}_{kind}"], book) for level, book in zip(levels, books, strict=True)], axis=1)
        for kind in ("true", "pred")
    )
    views = {
        name.removeprefix(f"{leaf}_of_"): _codes(cells, books[-1])
        for name, cells in columns.items()
        if name.startswith(f"{leaf}_of_")
    }
    calibrated = columns.get(f"{leaf}_score")
    return Answers(
        columns["path"],
        levels,
        [list(book) for book in books],
        truth,
        answer,
        _numbers(columns.get("score", nothing)),
        None if calibrated is None else _numbers(calibrated),
        views,
        columns.get("boxes"),
    )


def _columns(path: Path, again: str) -> Columns:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); {again}") from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UsageError(f"{path}: row {number} has {len(row)} cells and not {len(header)}; {again}")
    if not rows:
        raise UsageError(f"{path}: no answers in it; {again}")
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def _codes(cells: Sequence[str], book: dict[str, int]) -> Codes:
    """Return the number of each name, -1 for an empty cell; new names are added to the book."""
    return np.array([book.setdefault(cell, len(book)) if cell else -1 for cell in cells], dtype=np.int64)


def _numbers(cells: Sequence[str]) -> Numbers:
    return np.array([_number(cell) for cell in cells], dtype=np.float64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
