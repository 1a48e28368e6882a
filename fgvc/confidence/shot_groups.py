"""Frequent and rare classes: many, medium and few training images.

Shape letters: K classes.
"""

import numpy as np
import numpy.typing as npt

MANY, FEW = 100, 20
"""The usual borders: many-shot classes have more than 100 training images, few-shot classes fewer than 20."""
IMBALANCE = 10
"""Where the most frequent class has so many times the images of the rarest, classes are told apart by their number."""
GROUPS = ("many", "medium", "few")

Masks = dict[str, npt.NDArray[np.bool_]]


def shot_groups(counts: npt.NDArray[np.integer]) -> Masks:
    """Return the groups that have classes, most images first, each with the mask (K,) bool of its classes.

    The borders are the usual ones (Ziwei Liu and others, "Large-Scale Long-Tailed Recognition in an Open World", CVPR
    2019): more than 100 images, 20 to 100, fewer than 20. Where they leave a group empty, as in small sets, the span
    from the rarest class to the most frequent one is cut into thirds of its logarithm: of 2 .. 20 images, few are up to
    4, many from 10 on. Classes of equal number are always in one group. A class without training images is in none.

    Args:
        counts: (K,) training images of each class.

    Returns:
        Nothing where no class has ten times the images of another.
    """
    trained = counts > 0
    if not trained.any() or counts.max() < IMBALANCE * counts[trained].min():
        return {}
    usual = _cut(trained, counts < FEW, counts > MANY)
    if len(usual) == len(GROUPS):
        return usual
    # n < (least^2 * most)^(1/3), in whole numbers of any size: nothing is rounded
    least, most = int(counts[trained].min()), int(counts.max())
    cubes = counts.astype(object) ** 3
    few, many = (cubes < least**2 * most).astype(bool), (cubes > least * most**2).astype(bool)
    return _cut(trained, few, many)


def _cut(trained: npt.NDArray[np.bool_], few: npt.NDArray[np.bool_], many: npt.NDArray[np.bool_]) -> Masks:
    masks = (many, ~few & ~many, few)
    return {name: mask & trained for name, mask in zip(GROUPS, masks, strict=True) if (mask & trained).any()}
