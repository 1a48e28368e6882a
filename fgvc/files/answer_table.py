"""`predictions_test.csv`, the table of a run's test answers: its columns, how it is written and how it is read.

The columns, in this order:
    path                  as the data source knows the photograph
    <level>_true, <level>_pred
                          for each level, coarse to fine: names of the true and of the answered leaf and its ancestors,
                          empty where nothing is known
    <leaf>_of_<view>      for each view of the method, if it has any: the leaf that it answered
    <level>_score         for each level: the calibrated probability of <level>_pred
    score                 that of the answered leaf again, as `fgvc predict` has it
    score_uncalibrated    the answered leaf's probability as the network gave it
    boxes                 of a method that looks closer: JSON list of [x1, y1, x2, y2], fractions of the upright picture

Older tables lack the last ones; where `score_uncalibrated` is missing, `score` is the uncalibrated one and <level>_pred
the best class of each level by itself. Shape letters: N test images, L levels.
"""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError, did_you_mean
from fgvc.files.lines import quoted
from fgvc.files.run_folder import ANSWERS
from fgvc.files.whole_files import open_whole

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
RAW = "score_uncalibrated"
Box = tuple[float, float, float, float]


def write(path: Path, levels: Sequence[str], views: Sequence[str], boxed: bool, rows: Iterable[Sequence[str]]) -> None:
    """Write the table.

    Args:
        path: the file.
        levels: coarse to fine.
        views: of the method.
        boxed: whether there is a column of boxes.
        rows: cells in the order of the columns; see `scores` and `boxes`.

    Raises:
        FgvcError: it cannot be written.
    """
    header = ["path", *(f"{level}_{kind}" for level in levels for kind in ("true", "pred"))]
    header += [f"{levels[-1]}_of_{view}" for view in views]
    header += [*(f"{level}_score" for level in levels), "score", RAW, *["boxes"] * boxed]
    with open_whole(path) as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def scores(probabilities: Iterable[float]) -> list[str]:
    """Return a column of probabilities as cells."""
    return [f"{probability:.6f}" for probability in probabilities]


def boxes(of_images: Iterable[Iterable[Iterable[float]]]) -> list[str]:
    """Return a column of boxes, a list of xyxy for each image, as cells."""
    return [json.dumps([[round(x, 4) for x in box] for box in image]) for image in of_images]


@dataclass(frozen=True)
class Table:
    """The cells of a file. Bytes of a path that are not UTF-8 are kept as surrogates.

    columns: name -> N cells.
    levels: coarse to fine, at least one.
    """

    path: Path
    columns: dict[str, tuple[str, ...]]
    levels: tuple[str, ...]

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column.

        Raises:
            UsageError: no such column.
        """
        if name not in self.columns:
            near = did_you_mean(name, self.columns)
            raise UsageError(f"{self.path}: no column {name!r}; it has {list(self.columns)}{near}")
        return self.columns[name]


def read(path: Path) -> Table:
    """Read the cells of a table of at least one row.

    Raises:
        UsageError: a file that is not such a table.
    """
    again = f"run `fgvc test {quoted(path.parent) if path.name == ANSWERS else 'RUN'}` again"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {again}") from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UsageError(f"{path}: row {number} has {len(row)} cells and not {len(header)}; {again}")
    if not rows:
        raise UsageError(f"{path}: no answers in it; {again}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    named = (name.removesuffix("_true") for name in columns if name.endswith("_true"))
    levels = tuple(level for level in named if f"{level}_pred" in columns)
    if not levels or "path" not in columns:
        raise UsageError(f"{path}: no columns path, <level>_true and <level>_pred in it; {again}")
    return Table(path, columns, levels)


@dataclass(frozen=True)
class Answers:
    """What a run answered for its test images, as numbers.

    paths: N paths as the data source knows them.
    levels: coarse to fine; names: for each, the names that the codes stand for.
    truth, answer: (N, L) codes, -1 where nothing is known.
    score: (N,) probability of the answered leaf as the network gave it; calibrated: the same after calibration, or
        None. NaN where a cell is empty.
    views: name -> (N,) codes of the leaf that a view of the method answered.
    boxes: N cells of JSON, or None.
    lineage: (N, L) calibrated probabilities of the answered leaf and its ancestors, or None.
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
    lineage: Numbers | None = None

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
    """Read a table as numbers; columns that older tables lack may be missing.

    Raises:
        UsageError: a file that is not such a table.
    """
    table = read(path)
    columns, levels, leaf = table.columns, table.levels, table.levels[-1]
    codes: list[dict[str, int]] = [{} for _ in levels]
    truth, answer = (
        np.stack([_codes(columns[f"{level}_{kind}"], of) for level, of in zip(levels, codes, strict=True)], axis=1)
        for kind in ("true", "pred")
    )
    of = f"{leaf}_of_"
    views = {name.removeprefix(of): _codes(cells, codes[-1]) for name, cells in columns.items() if name.startswith(of)}
    score, calibrated = (
        np.array([_number(cell) for cell in columns[name]]) if name in columns else None
        for name in (RAW if RAW in columns else "score", f"{leaf}_score")
    )
    score = np.full(len(truth), math.nan) if score is None else score
    names = [list(of_level) for of_level in codes]
    told = [f"{level}_score" for level in levels]
    whole = set(told) <= set(columns)
    lineage = np.array([[_number(cell) for cell in columns[name]] for name in told]).T if whole else None
    return Answers(
        columns["path"], levels, names, truth, answer, score, calibrated, views, columns.get("boxes"), lineage
    )


def _codes(cells: Sequence[str], codes: dict[str, int]) -> Codes:
    """Return the number of each name, -1 for an empty cell; new names are given the next numbers."""
    return np.array([codes.setdefault(cell, len(codes)) if cell else -1 for cell in cells], dtype=np.int64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
