"""Thin a training split to a long tail, for experiments.

Shape letters: N records, C classes that have records.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgvc.data.records import Records
from fgvc.data.splitting import Ints, random_keys
from fgvc.errors import UsageError
from fgvc.files.whole_files import open_whole
from fgvc.taxonomy.tree import Taxonomy


@dataclass(frozen=True)
class LongTail:
    """How many training images the classes keep.

    The number falls exponentially from class to class, as in Kaidi Cao and others, "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019.

    Attributes:
        most: images of the most frequent class.
        least: images of the rarest class.
        seed: decides which class is how frequent, and which of its images stay; apart from the seed of the training.
    """

    most: int
    least: int
    seed: int = 0

    def check(self) -> "LongTail":
        """Return self, or raise UsageError for numbers that make no tail."""
        if not 1 <= self.least <= self.most:
            raise UsageError(
                f"data.long_tail: most {self.most}, least {self.least}; least must be at least 1 and at most `most`"
            )
        if self.seed < 0:
            raise UsageError(f"data.long_tail.seed: {self.seed}; it must be at least 0")
        return self


def profile(classes: int, most: int, least: int) -> Ints:
    """Return (C,) images of the classes, the most frequent first: most * (least / most)^(i / (C - 1)), rounded."""
    steps = np.arange(classes) / max(classes - 1, 1)
    return np.floor(most * (least / most) ** steps + 0.5).astype(np.int64)


def thinned(labels: npt.NDArray[np.integer], num_classes: int, plan: LongTail) -> Ints:
    """Return the positions (M,) of the records that stay, in their order: a function of labels and plan alone.

    The classes are put in an order by the seed, not by their place in the list, where relatives stand together. A
    class that has fewer records than it may keep keeps all of them. Records whose label is no leaf stay. With the same
    seed, a thinner tail is a part of a thicker one.

    Args:
        labels: (N,) node ids; leaves are 0 .. num_classes - 1.
        num_classes: leaves of the taxonomy.
        plan: the tail.
    """
    is_leaf = (labels >= 0) & (labels < num_classes)
    present = np.unique(labels[is_leaf])
    quota = np.full(num_classes, 0, dtype=np.int64)
    quota[present[np.argsort(random_keys(plan.seed, len(present)), kind="stable")]] = profile(
        len(present), plan.most, plan.least
    )
    rows = np.flatnonzero(is_leaf)
    drawn = random_keys(plan.seed + 1, len(labels))[rows]
    order = np.lexsort((drawn, labels[rows]))
    sizes = np.bincount(labels[rows], minlength=num_classes)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = rows[order][rank < quota[labels[rows][order]]]
    return np.sort(np.concatenate([kept, np.flatnonzero(~is_leaf)]))


def told(counts: npt.NDArray[np.integer], before: int, after: int) -> str:
    """Return a line on what thinning left.

    Args:
        counts: (K,) training images of each class, after it.
        before, after: training images in all.
    """
    present = counts[counts > 0]
    span = f"{present.max()} to {present.min()} per class" if len(present) else "no class among them"
    return f"long tail: {after:,} of {before:,} training images are kept, {span} (data.long_tail)"


def write_kept(path: Path, records: Records, taxonomy: Taxonomy) -> None:
    """Write a table of the training images that were kept, `path,class`; raises FgvcError where it cannot be written.

    Args:
        path: of the table.
        records: that were kept; their paths start at the folder of the data.
        taxonomy: the classes.
    """
    with open_whole(path) as file:
        table = csv.writer(file)
        table.writerow(["path", "class"])
        for row, label in enumerate(records.labels.tolist()):
            table.writerow([records.relative_path(row), taxonomy.path(label)[-1] if label >= 0 else ""])
