"""The plain loss.

Shape letters: N images, K classes.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from fgvc.methods.losses.base import ClassLoss, named
from fgvc.taxonomy.tree import Taxonomy


class CrossEntropy(ClassLoss):
    """-log p of what the label names: of a leaf the cross-entropy, of an inner node -log p(any leaf below it)."""

    smooths: ClassVar[bool] = True

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        return -named(log_p, inside)

    def of_targets(self, logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy (), see `ClassLoss.of_targets`."""
        return class_loss(logits, targets, label_smoothing)


def class_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the images whose class is known; 0 where none is.

    Args:
        logits: (N, K).
        targets: (N,) int64; -1 is unknown.
        label_smoothing: share of the target spread evenly over all classes, 0 .. 1.
    """
    total = cross_entropy(logits, targets, ignore_index=-1, label_smoothing=label_smoothing, reduction="sum")
    return total / (targets >= 0).sum().clamp_min(1)


def node_loss(logits: Tensor, labels: Tensor, taxonomy: Taxonomy, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log p(any leaf below the label) over the images with a label; 0 where none has one.

    For a leaf this is the cross-entropy. If only the genus is known, the probability of the whole genus counts.

    Args:
        logits: (N, K) of the leaves.
        labels: (N,) int64 node ids, leaves or inner nodes; -1 is unknown.
        taxonomy: the classes.
        label_smoothing: share of the target spread evenly over all leaves, 0 .. 1.
    """
    return CrossEntropy(taxonomy.num_classes).of_nodes(logits, labels, taxonomy, label_smoothing)
