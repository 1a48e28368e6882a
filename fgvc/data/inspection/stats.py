"""Count the photographs of a data set per split, level and class.

Shape letters: N records, M nodes of the taxonomy, C classes of a level.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgvc.taxonomy.tree import Taxonomy

Counts = npt.NDArray[np.int64]

EXTREMES = 5
"""How many of the largest and of the smallest classes are named."""


class LevelCounts(NamedTuple):
    """One level of one split.

    classes: classes that have images.
    of: classes of the level.
    known: images whose label says the class at this level.
    least, median, most: images of the classes that have some; 0 where none has.
    """

    classes: int
    of: int
    known: int
    least: int
    median: float
    most: int

    @property
    def imbalance(self) -> float | None:
        """Images of the largest over those of the smallest class that has some; None where none has."""
        return self.most / self.least if self.least else None


def node_counts(labels: npt.NDArray[np.int32], taxonomy: Taxonomy) -> Counts:
    """Return (M,) how often each node is a label, from (N,) labels; -1 counts nowhere."""
    return np.bincount(labels[labels >= 0], minlength=taxonomy.num_nodes)


def class_counts(nodes: Counts, taxonomy: Taxonomy, level: str) -> Counts:
    """Return (C,) images of each class of a level, labels below it included, from `node_counts`."""
    above = taxonomy.ancestors[:, taxonomy.depth(level)].numpy()
    has_class = above >= 0
    summed = np.bincount(above[has_class], weights=nodes[has_class], minlength=taxonomy.size(level))
    return summed.astype(np.int64)


def level_counts(nodes: Counts, taxonomy: Taxonomy, level: str) -> LevelCounts:
    """Return the counts of one level, from `node_counts`."""
    counts = class_counts(nodes, taxonomy, level)
    some = counts[counts > 0]
    spread = (int(some.min()), float(np.median(some)), int(some.max())) if len(some) else (0, 0.0, 0)
    return LevelCounts(len(some), len(counts), int(counts.sum()), *spread)


def extremes(nodes: Counts, taxonomy: Taxonomy) -> tuple[dict[str, int], dict[str, int]]:
    """Return name -> images of the largest leaves, largest first, and of the smallest of the others, smallest first.

    Leaves without images are left out.
    """
    counts = class_counts(nodes, taxonomy, taxonomy.leaf_level)
    names = taxonomy.unique_names(taxonomy.leaf_level)
    order = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
    smallest = order[EXTREMES:][-EXTREMES:][::-1]
    most, least = ({names[k]: int(counts[k]) for k in some} for some in (order[:EXTREMES], smallest))
    return most, least


def to_plain(labels: Mapping[str, npt.NDArray[np.int32]], taxonomy: Taxonomy) -> dict[str, Any]:
    """Return all counts as plain data.

    Args:
        labels: split -> (N,) node ids.
        taxonomy: what they point into.
    """
    plain: dict[str, Any] = {}
    for split, of_split in labels.items():
        nodes = node_counts(of_split, taxonomy)
        levels = {level: level_counts(nodes, taxonomy, level) for level in taxonomy.levels}
        largest, smallest = extremes(nodes, taxonomy)
        plain[split] = {
            "images": len(of_split),
            "unlabelled": len(of_split) - int(nodes.sum()),
            "levels": {level: {**counts._asdict(), "imbalance": counts.imbalance} for level, counts in levels.items()},
            "largest": largest,
            "smallest": smallest,
        }
    return plain


def class_rows(labels: Mapping[str, npt.NDArray[np.int32]], taxonomy: Taxonomy) -> Iterator[list[str | int]]:
    """Yield a header and a row per class of each level, coarse to fine: level, class, images in each split."""
    nodes = {split: node_counts(of_split, taxonomy) for split, of_split in labels.items()}
    yield ["level", "class", *labels]
    for level in taxonomy.levels:
        counts = [class_counts(of_split, taxonomy, level).tolist() for of_split in nodes.values()]
        for name, *row in zip(taxonomy.unique_names(level), *counts, strict=True):
            yield [level, name, *row]


def table(plain: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table for people, from `to_plain`."""
    levels = [level for split in plain.values() for level in split["levels"]]
    width = max(map(len, ("level", *levels)))
    head = f"{'split':<5} {'images':>10}  {'level':<{width}}"
    yield f"{head} {'known':>9} {'classes':>15} {'least/median/most per class':>28} {'ratio':>7}"
    for name, split in plain.items():
        for i, (level, found) in enumerate(split["levels"].items()):
            head = f"{name:<5} {split['images']:>10,}" if i == 0 else " " * 16
            share = f"{100 * found['known'] / max(split['images'], 1):.2f} %"
            classes = f"{found['classes']:,} of {found['of']:,}"
            median = f"{found['median']:,.1f}".removesuffix(".0")
            spread = f"{found['least']:,} / {median} / {found['most']:,}"
            ratio = "-" if found["imbalance"] is None else f"{found['imbalance']:.1f}"
            yield f"{head}  {level:<{width}} {share:>9} {classes:>15} {spread:>28} {ratio:>7}"
    first = next(iter(plain), "")
    for which in ("largest", "smallest") if plain else ():
        if named := plain[first][which]:
            yield f"{which} in {first}: {', '.join(f'{label} {count:,}' for label, count in named.items())}"


def coarse_labels(split: str, labels: npt.NDArray[np.int32], taxonomy: Taxonomy) -> Iterator[str]:
    """Yield a line for each level above the leaves at which labels of a split end."""
    nodes = node_counts(labels, taxonomy)
    known = [int(class_counts(nodes, taxonomy, level).sum()) for level in taxonomy.levels]
    for level, here, below in zip(taxonomy.levels, known, known[1:], strict=False):
        if here > below:
            yield f"note: {here - below:,} of {len(labels):,} labels of {split} end at {level}"
