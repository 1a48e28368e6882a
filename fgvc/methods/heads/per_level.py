"""One classifier per level: the baseline that every hierarchical head must beat."""

from torch import Tensor

from fgvc.datatypes import Prediction
from fgvc.errors import UsageError
from fgvc.methods.backbone import Backbone
from fgvc.methods.heads.base import LevelHead, PoolingFactory
from fgvc.methods.losses.base import LossFactory
from fgvc.methods.losses.cross_entropy import CrossEntropy
from fgvc.methods.pooling.native import NativePooling
from fgvc.taxonomy.tree import Taxonomy


class PerLevelHead(LevelHead):
    """Pooling, dropout, then one linear layer for each level of the taxonomy, all on the same embedding.

    Each level answers on its own, so the species and the genus of an answer may not belong together. For a tree of one
    level it is LinearHead.

    Args:
        taxonomy, backbone, pooling, label_smoothing, prior_strength, loss: see Head; the last acts on the leaf level.
        dropout: share of the embedding's entries dropped while training.
        level_weights: L factors on the levels' losses, coarse to fine; None for 1 each.

    Raises:
        UsageError: level_weights does not have one number for each level, or has a negative one.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: Backbone,
        pooling: PoolingFactory = NativePooling,
        label_smoothing: float = 0.0,
        prior_strength: float = 0.0,
        dropout: float = 0.0,
        level_weights: list[float] | None = None,
        loss: LossFactory = CrossEntropy,
    ) -> None:
        super().__init__(taxonomy, backbone, pooling, label_smoothing, prior_strength, dropout, loss=loss)
        weights = [1.0] * len(taxonomy.levels) if level_weights is None else level_weights
        if len(weights) != len(taxonomy.levels) or min(weights) < 0:
            raise UsageError(
                f"PerLevelHead: level_weights {weights}; give a number of 0 or more for each of {list(taxonomy.levels)}"
            )
        self.level_weights = dict(zip(taxonomy.levels, weights, strict=True))

    def loss(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted cross-entropy () of each level, by the level's name.

        Args:
            prediction: the answer of `forward`.
            labels: (N,) int64 node ids; an inner node counts at its own level and those above, -1 at none.
        """
        terms = self.level_losses(prediction, labels)
        return {level: weight * terms[level] for level, weight in self.level_weights.items()}
