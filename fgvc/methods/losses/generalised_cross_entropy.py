"""Generalised cross-entropy: between the cross-entropy and the absolute error.

Shape letters: N images, K classes.
"""

import math

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.losses.base import ClassLoss, named


def box_cox(log_p: Tensor, q: float) -> Tensor:
    """Return (...): (1 - p^q) / q of log-probabilities (...), exact for small q too; -log p where q is 0."""
    return -torch.expm1(q * log_p) / q if q else -log_p


class GeneralisedCrossEntropy(ClassLoss):
    """(1 - p^q) / q of the probability p of what the label names.

    Zhilu Zhang, Mert R. Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels",
    NeurIPS 2018. The gradient is that of the cross-entropy times p^q: labels that the network finds unlikely, which
    many wrong ones are, pull less. As q falls to 0 it becomes the cross-entropy; q = 1 is the absolute error over 2.

    In its truncated form a label whose p is at most `truncate` pulls not at all. At the start of a training all p are
    about 1 / K, so the truncation begins after `truncate_after` epochs (the paper: a third of them). The paper keeps
    its choice of images for ten epochs; here it is made anew in each batch.

    Among many classes p^q of an untrained head is next to nothing, and a deep network may never start: give it some
    `warm_epochs` of the cross-entropy, which are not in the paper.

    Args:
        num_classes: K.
        q: 0 (excluded) .. 1.
        truncate: the least probability that still counts, 0 (off) .. 1 (excluded); the paper's is 0.5.
        truncate_after: epochs before the truncation.
        warm_epochs: epochs of the plain cross-entropy at the start.

    Raises:
        UsageError: a number outside its range.
    """

    def __init__(
        self, num_classes: int, q: float = 0.7, truncate: float = 0.0, truncate_after: int = 5, warm_epochs: int = 0
    ) -> None:
        super().__init__(num_classes)
        if not 0 < q <= 1:
            raise UsageError(f"GeneralisedCrossEntropy: q {q}; give a number above 0, at most 1 (usual: 0.7)")
        if not 0 <= truncate < 1 or truncate_after < 0:
            raise UsageError(
                f"GeneralisedCrossEntropy: truncate {truncate} after {truncate_after} epochs; give 0 (off) or more and "
                "below 1 (usual: 0.5), and 0 epochs or more"
            )
        if warm_epochs < 0:
            raise UsageError(f"GeneralisedCrossEntropy: warm_epochs {warm_epochs}; give 0 (none) or more")
        self.q, self.truncate, self.truncate_after, self.warm_epochs = q, truncate, truncate_after, warm_epochs

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        log_named = named(log_p, inside)
        if self.training and self.epoch < self.warm_epochs:
            return -log_named
        if self.truncate and self.training and self.epoch >= self.truncate_after:
            log_named = log_named.clamp_min(math.log(self.truncate))
        return box_cox(log_named, self.q)
