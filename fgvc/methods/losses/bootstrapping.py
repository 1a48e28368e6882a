"""Bootstrapping: the target is the label for one part, and for the other what the network itself says.

Shape letters: N images, K classes.
"""

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.losses.base import ClassLoss, named


class Bootstrapping(ClassLoss):
    """The cross-entropy to beta * label + (1 - beta) * answer.

    Scott Reed, Honglak Lee, Dragomir Anguelov, Christian Szegedy, Dumitru Erhan, Andrew Rabinovich, "Training Deep
    Neural Networks on Noisy Labels with Bootstrapping", ICLR workshop 2015. Soft: the answer is the probabilities, so
    that (1 - beta) times their entropy is added. Hard: the answer is the most probable class. In both, the gradient
    goes through the answer too, as in the paper. The classes below an inner node that is the label count as one.

    Args:
        num_classes: K.
        hard: whether the answer is one class.
        beta: share of the label, 0 (excluded) .. 1, where it is the cross-entropy; None for the paper's, 0.95 soft and
            0.8 hard.

    Raises:
        UsageError: a beta outside its range.
    """

    def __init__(self, num_classes: int, hard: bool = False, beta: float | None = None) -> None:
        super().__init__(num_classes)
        self.hard = hard
        self.beta = (0.8 if hard else 0.95) if beta is None else beta
        if not 0 < self.beta <= 1:
            raise UsageError(f"Bootstrapping: beta {beta}; give a number above 0, at most 1 (usual: 0.95, hard 0.8)")

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        log_named = named(log_p, inside)
        if self.hard:
            answer = torch.maximum(log_named, log_p.masked_fill(inside, -torch.inf).amax(dim=1))
        else:
            others = (log_p.exp() * log_p).masked_fill(inside, 0.0).sum(dim=1)
            answer = log_named.exp() * log_named + others
        return -self.beta * log_named - (1 - self.beta) * answer
