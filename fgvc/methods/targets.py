"""Losses over the images whose class is known: a target of -1 is unknown.

Shape letters: N images, C classes.
"""

from torch import Tensor


def scores_of(targets: Tensor, scores: Tensor) -> Tensor:
    """Return (N,): each image's score (N, C) of its target (N,) int64; where that is -1, the number means nothing."""
    return scores.gather(1, targets.clamp_min(0)[:, None])[:, 0]


def mean_of_known(values: Tensor, known: Tensor) -> Tensor:
    """Return (...): the mean of values (N, ...) over the images that are known, (N,) bool; 0 where none is."""
    unknown = ~known.view(-1, *[1] * (values.ndim - 1))
    return values.masked_fill(unknown, 0.0).sum(dim=0) / known.sum().clamp_min(1)
