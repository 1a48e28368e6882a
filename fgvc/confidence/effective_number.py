"""How many different photographs a class is worth, many of which resemble each other.

Shape letters: C classes.
"""

import numpy as np
import numpy.typing as npt

from fgvc.errors import UsageError

Numbers = npt.NDArray[np.float64]


def effective_number(counts: npt.ArrayLike, beta: float) -> Numbers:
    """Return (C,) the effective numbers (1 - beta^n) / (1 - beta) of classes of n images.

    Yin Cui, Menglin Jia, Tsung-Yi Lin, Yang Song, Serge Belongie, "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019. With beta 0 every class that has images is worth 1; with beta 1, the limit, it is worth n.

    Args:
        counts: (C,) images of each class.
        beta: 0 .. 1.

    Raises:
        UsageError: beta is outside its range.
    """
    check_beta("beta", beta)
    images = np.asarray(counts, dtype=np.float64)
    if beta == 1:
        return images
    if beta == 0:
        return (images > 0).astype(np.float64)
    found: Numbers = -np.expm1(images * np.log(beta)) / (1 - beta)
    return found


def class_weights(counts: npt.ArrayLike, beta: float) -> Numbers:
    """Return (C,) weights in proportion to 1 / effective number whose mean over the classes with images is 1.

    A class without images gets 0.

    Args:
        counts: (C,) images of each class.
        beta: see `effective_number`.
    """
    worth = effective_number(counts, beta)
    has_images = worth > 0
    weights = np.divide(1.0, worth, out=np.zeros_like(worth), where=has_images)
    total = weights.sum()
    return weights * (has_images.sum() / total) if total > 0 else weights


def check_beta(key: str, beta: float) -> None:
    """Raise UsageError, which names the key, for a beta outside 0 .. 1."""
    if not 0 <= beta <= 1:
        raise UsageError(f"{key}: {beta}; it must be from 0 (all classes weigh alike per image) to 1 (per class)")
