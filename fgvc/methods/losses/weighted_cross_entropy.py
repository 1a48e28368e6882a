"""The cross-entropy in which rare classes weigh more.

Shape letters: N images, K classes.
"""

from typing import ClassVar

from torch import Tensor

from fgvc.methods.class_weights import ClassWeights
from fgvc.methods.losses.base import ClassLoss, named


class WeightedCrossEntropy(ClassLoss):
    """-log p of what the label names, times a weight of its class, by its effective number of training images.

    Yin Cui, Menglin Jia, Tsung-Yi Lin, Yang Song, Serge Belongie, "Class-Balanced Loss Based on Effective Number of
    Samples", CVPR 2019. How the weights are scaled, and what a label of a coarser level weighs: see `ClassWeights`.

    Args:
        num_classes: K.
        beta: 0 weighs all images alike, 1 all classes; between, classes of fewer than about 1 / (1 - beta) images are
            weighed nearly alike per class, larger ones by what they add.
        deferred: whether the weights act only in phases that say `reweight: true`.

    Raises:
        UsageError: beta is outside 0 .. 1.
    """

    smooths: ClassVar[bool] = True

    def __init__(self, num_classes: int, beta: float = 0.999, deferred: bool = False) -> None:
        super().__init__(num_classes)
        self.weights = ClassWeights(num_classes, type(self).__name__, beta, deferred)

    def set_class_counts(self, counts: Tensor) -> None:
        """Set the number of training images per class, (K,)."""
        self.weights.set_class_counts(counts)

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        weights: Tensor = self.weights(inside)
        return -named(log_p, inside) * weights
