"""How clean the label of each training image is taken to be, read from a table; which stages a phase draws from.

Shape letters: R training images, M of them.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.data.reading.table_file import read_rows
from fgvc.data.records import Records
from fgvc.data.samplers import Balance
from fgvc.errors import UsageError, did_you_mean
from fgvc.taxonomy.tree import Taxonomy

STAGES = ("clean", "noisy", "highly_noisy")
"""The words of the column `stage`, the cleanest first."""

Ints = npt.NDArray[np.int64]


class Drawn(NamedTuple):
    """What a phase says of the images that are drawn.

    subsets: the stages, or how many of them from the cleanest on; None for all images.
    balance: in place of the data's own, or None.
    """

    subsets: Sequence[str] | int | None = None
    balance: Balance | None = None


def stage_names(subsets: Sequence[str] | int) -> tuple[str, ...]:
    """Return the names of stages, the cleanest first.

    Args:
        subsets: names, or how many from the cleanest on.

    Raises:
        UsageError: a name or a number that there is none of.
    """
    if isinstance(subsets, int):
        if not 1 <= subsets <= len(STAGES):
            raise UsageError(f"subsets {subsets}; there are the first 1 to {len(STAGES)} of {', '.join(STAGES)}")
        return STAGES[:subsets]
    for name in subsets:
        if name not in STAGES:
            raise UsageError(f"subsets: no stage {name!r}; there are {', '.join(STAGES)}{did_you_mean(name, STAGES)}")
    if not subsets:
        raise UsageError(f"subsets: none given; name some of {', '.join(STAGES)}, or leave it out to draw from all")
    return tuple(name for name in STAGES if name in subsets)


class Stages:
    """The stages of the training images.

    Args:
        numbers: (R,) the place in STAGES; -1 where a label is not known.
        where: what the person gave, for messages.
    """

    def __init__(self, numbers: npt.NDArray[np.int8], where: str) -> None:
        self.numbers, self.where = numbers, where

    def line(self) -> str:
        """Return how many images are in each stage."""
        counts = [f"{int((self.numbers == i).sum()):,} {name}" for i, name in enumerate(STAGES)]
        return f"stages: {', '.join(counts)}, from {self.where}"

    def rows(self, subsets: Sequence[str] | int) -> Ints:
        """Return the positions (M,) of the images of some stages.

        Raises:
            UsageError: see `stage_names`, or no image is in these stages.
        """
        names = stage_names(subsets)
        rows = np.flatnonzero(np.isin(self.numbers, [STAGES.index(name) for name in names]))
        if not len(rows):
            raise UsageError(f"subsets: no training image is {' or '.join(names)} in {self.where}")
        return rows

    def told(self, subsets: Sequence[str] | int) -> str:
        """Return names, number and a checksum of what is drawn from: other images make another order."""
        rows = self.rows(subsets)
        return f"{len(rows):,} {' + '.join(stage_names(subsets))} ({zlib.crc32(rows.tobytes()):08x})"


def read_stages(path: str, splits: Mapping[str, Records], taxonomy: Taxonomy) -> Stages:
    """Read the stages of the training images from a table with the columns path, label and stage.

    Images whose label is not known need no row and have no stage.

    Args:
        path: CSV or Parquet, as `fgvc curriculum` writes it.
        splits: all images by split; `train` are those that need a row. Rows of others are passed over.
        taxonomy: that the labels point into.

    Raises:
        UsageError: the file, a column or a row is missing, a path is none of the data's or comes twice, a label or a
            stage is not the one of the data.
    """
    rows = read_rows(path, ["path", "label", "stage"])
    train = splits["train"]
    places = {train.relative_path(i): i for i in range(len(train))}
    others = {one.relative_path(i) for split, one in splits.items() if split != "train" for i in range(len(one))}
    names = {int(node): label_text(taxonomy, int(node)) for node in np.unique(train.labels)}
    numbers = np.full(len(train), -1, dtype=np.int8)
    cells = (rows.cells[column] for column in ("path", "label", "stage"))
    for row, (file, label, stage) in enumerate(zip(*cells, strict=True)):
        if stage not in STAGES:
            raise UsageError(
                f"{rows.at(row)}: stage {stage!r}; it is one of {', '.join(STAGES)}{did_you_mean(stage, STAGES)}"
            )
        if (place := places.get(file)) is None:
            if file in others:
                continue
            raise UsageError(f"{rows.at(row)}: no photograph {file!r} in the data; paths start at {train.root}")
        if numbers[place] >= 0:
            raise UsageError(f"{rows.at(row)}: {file!r} comes twice; keep one row")
        if label != (known := names[int(train.labels[place])]):
            raise UsageError(
                f"{rows.at(row)}: {file!r} is labelled {label!r}, but in the data {known!r}; run fgvc curriculum "
                "again on these data"
            )
        numbers[place] = STAGES.index(stage)
    missing = np.flatnonzero((numbers < 0) & (train.labels >= 0))
    if len(missing):
        raise UsageError(
            f"{path}: no row for {len(missing):,} of {len(train):,} training images, the first of them "
            f"{train.relative_path(int(missing[0]))!r}; run fgvc curriculum on features of all of them"
        )
    return Stages(numbers, path)


def label_text(taxonomy: Taxonomy, node: int) -> str:
    """Return how tables of stages write a label: the names from the coarsest level down, "" for -1."""
    return "" if node < 0 else " > ".join(taxonomy.path(node))
