"""Label-distribution-aware margins: a rare class has to be right by more.

Shape letters: N images, K classes.
"""

import math

import torch
from torch import Tensor

from fgvc.errors import UsageError
from fgvc.methods.class_weights import ClassWeights
from fgvc.methods.losses.base import ClassLoss, named


def margins(counts: Tensor, max_margin: float) -> Tensor:
    """Return (K,) margins in proportion to n^(-1/4), the largest of them `max_margin`; 0 where n is 0.

    Args:
        counts: (K,) training images per class.
        max_margin: of the rarest class that has images.
    """
    images = counts.double()
    if not bool((images > 0).any()):
        return torch.zeros_like(images)
    least = images[images > 0].min()
    return max_margin * (least / images.clamp_min(1)) ** 0.25 * (images > 0)


class LDAM(ClassLoss):
    """The cross-entropy after a margin is taken off the logits of the classes that the label names.

    Kaidi Cao, Colin Wei, Adrien Gaidon, Nikos Arechiga, Tengyu Ma, "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019. The margin of a class of n images is C / n^(1/4): the trade-off
    between classes that their bound asks for. The paper takes it off cosines, which are then multiplied by a scale:
    with `CosineHead` give the same `scale` here, and `learn_scale: false` there; with other heads scale 1 takes it off
    the logits. With deferred re-weighting (LDAM-DRW) the classes are weighed by their effective numbers in the phases
    that say `reweight: true`.

    Margins and weights act while training only; an evaluation logs the plain cross-entropy.

    Args:
        num_classes: K.
        max_margin: of the rarest class.
        scale: the factor between what the margin is taken off and the logits.
        beta: of the class weights, see `ClassWeights`.
        deferred: whether the weights wait for a phase that says `reweight: true`.

    Raises:
        UsageError: a number outside its range.
    """

    def __init__(
        self,
        num_classes: int,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float = 0.9999,
        deferred: bool = True,
    ) -> None:
        super().__init__(num_classes)
        if not (0 <= max_margin < math.inf and 0 < scale < math.inf):
            raise UsageError(
                f"LDAM: max_margin {max_margin}, scale {scale}; give a margin of at least 0 (usual: 0.5) and a scale "
                "above 0 (usual: 30, that of the cosine head)"
            )
        self.max_margin, self.scale = max_margin, scale
        self.weights = ClassWeights(num_classes, type(self).__name__, beta, deferred)
        self.register_buffer("margins", torch.zeros(num_classes), persistent=False)
        self.margins: Tensor

    def set_class_counts(self, counts: Tensor) -> None:
        """Set the number of training images per class, (K,)."""
        self.margins.copy_(margins(counts, self.max_margin))
        self.weights.set_class_counts(counts)

    def per_image(self, log_p: Tensor, inside: Tensor) -> Tensor:
        """Map log-probabilities (N, K), named classes (N, K) bool -> costs (N,)."""
        if self.training:  # log-probabilities are logits, but for a number per image that the softmax takes out again
            log_p = (log_p - self.scale * self.margins * inside).log_softmax(dim=1)
        weights: Tensor = self.weights(inside)
        return -named(log_p, inside) * weights
