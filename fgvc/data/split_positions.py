"""Which records of a source each split has: what is cut off for validation, folds, and training images thinned out.

Shape letters: R records of a split of the source.
"""

import numpy as np
import numpy.typing as npt

from fgvc.data.episode_batches import held_out_classes
from fgvc.data.long_tail import LongTail, thinned
from fgvc.data.sources.base import DataSource
from fgvc.data.splitting import stratified_folds, stratified_split

Positions = dict[str, tuple[str, npt.NDArray[np.int64] | None]]
"""Split -> the split of the source that it is read from, and the positions there; None for all."""


def split_positions(
    source: DataSource, fraction: float, seed: int, folds: int, fold: int, by_class: bool = False
) -> Positions:
    """Return for each split the split of the source that it is read from, and the positions there (None: all).

    With `by_class` whole classes are held out.
    """
    positions: Positions = {split: (split, None) for split in source.splits}
    if "train" not in positions or not (folds or ("val" not in positions and fraction > 0)):
        return positions
    labels, groups = source.records("train").labels, source.groups("train")
    left = np.arange(len(labels))
    if folds:
        is_held = stratified_folds(labels, folds, seed, groups) == fold - 1
        positions["test"] = ("train", left[is_held])
        left = left[~is_held]
    if "val" not in positions and fraction > 0:
        if by_class:
            held_out = held_out_classes(labels[left], source.taxonomy, fraction, seed)
        else:
            held_out = stratified_split(labels[left], fraction, seed, None if groups is None else groups[left])
        positions["val"] = ("train", left[held_out])
        left = left[~held_out]
    positions["train"] = ("train", left)
    return positions


def thin(positions: Positions, source: DataSource, plan: LongTail) -> int:
    """Thin the training images to a long tail, in place, and return how many there were; 0 where there are none."""
    if "train" not in positions:
        return 0
    name, left = positions["train"]
    labels = source.records(name).labels
    left = np.arange(len(labels)) if left is None else left
    positions["train"] = (name, left[thinned(labels[left], source.taxonomy.num_classes, plan)])
    return len(left)
