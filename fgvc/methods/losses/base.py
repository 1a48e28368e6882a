"""The base class of losses: what a head's probabilities cost, given the labels.

Shape letters: N images, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fgvc.errors import UsageError
from fgvc.methods.targets import mean_of_known
from fgvc.taxonomy.relatives import below
from fgvc.taxonomy.tree import Taxonomy


class ClassLoss(nn.Module, ABC):
    """The cost of the probabilities of K classes, of which one or several are right for an image.

    Several are right where the label is an inner node: the classes below it then count as one, whose probability is
    their sum. A head has one loss for each level. A loss is used for training and logged for evaluation.

    Args:
        num_classes: K.

    Attributes:
        epoch: how many epochs of the training are over, set before each batch (`Recognizer.begin_epoch`). What changes
            while a training goes on is a function of it, so that a training that is taken up again needs no state.
    """

    smooths: ClassVar[bool] = False
    """Whether the head's `label_smoothing` may stand beside it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.epoch = 0

    @abstractmethod
    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Return the cost (N,) of each image.

        Args:
            log_p: (N, K) float32 or float64 log-probabilities; each row's probabilities sum to 1.
            inside: (N, K) bool, the classes that the label names: one, or all below an inner node. Where nothing is
                known it names all; such a cost is not used, but it must be finite.
        """

    def set_class_counts(self, counts: Tensor) -> None:
        """Take note of the number of training images per class, (K,)."""
        return

    def of_targets(self, logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cost () over the images whose class is known; 0 where none is.

        Args:
            logits: (N, K).
            targets: (N,) int64; -1 is unknown.
            label_smoothing: share of the target spread evenly over all classes, 0 .. 1.
        """
        known = targets >= 0
        inside = one_hot(targets.clamp_min(0), self.num_classes).bool() | ~known[:, None]
        return self._mean(logits, inside, known, label_smoothing)

    def of_nodes(self, logits: Tensor, labels: Tensor, taxonomy: Taxonomy, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cost () over the images with a label; 0 where none has one.

        Args:
            logits: (N, K) of the leaves.
            labels: (N,) int64 node ids, leaves or inner nodes; -1 is unknown.
            taxonomy: the classes.
            label_smoothing: share of the target spread evenly over all leaves, 0 .. 1.
        """
        if len(taxonomy.levels) == 1:
            return self.of_targets(logits, labels, label_smoothing)
        return self._mean(logits, below(taxonomy, labels), labels >= 0, label_smoothing)

    def _mean(self, logits: Tensor, inside: Tensor, known: Tensor, label_smoothing: float) -> Tensor:
        exact = logits if logits.dtype == torch.float64 else logits.float()
        with torch.autocast(logits.device.type, enabled=False):
            log_p = exact.log_softmax(dim=1)
            costs = self.per_image(log_p, inside)
            if label_smoothing:
                costs = (1 - label_smoothing) * costs - label_smoothing * log_p.mean(dim=1)
        return mean_of_known(costs, known)


LossFactory = Callable[[int], ClassLoss]


def named(log_p: Tensor, inside: Tensor) -> Tensor:
    """Return (N,): the log of the probability of what a label names; see `ClassLoss.per_image`."""
    return log_p.masked_fill(~inside, -torch.inf).logsumexp(dim=1)


def make_losses(loss: LossFactory, sizes: list[int], label_smoothing: float, owner: str) -> list[ClassLoss]:
    """Return a loss for each level of so many classes.

    Raises:
        UsageError: a label smoothing beside a loss that has none.
    """
    losses = [loss(size) for size in sizes]
    if label_smoothing and not all(one.smooths for one in losses):
        raise UsageError(
            f"{owner}: label_smoothing {label_smoothing} with {type(losses[0]).__name__}, which has no smoothed "
            "target; give label_smoothing 0"
        )
    return losses
